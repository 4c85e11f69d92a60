"""Forms of operators: equal to the schemas of ONNX or narrower."""

from __future__ import annotations

import pytest

from kvae_serve.sealed import allowed_ops


@pytest.mark.parametrize("op", sorted(allowed_ops.ALLOWED_OPS))
def test_form_equals_the_onnx_schema_or_is_narrower(op):
    onnx = pytest.importorskip("onnx")
    schema, form = onnx.defs.get_schema(op, 18, ""), allowed_ops.FORMS[op]
    option = onnx.defs.OpSchema.FormalParameterOption
    for ours, theirs in ((form.inputs, schema.inputs), (form.outputs, schema.outputs)):
        assert ours.endswith("*") == bool(theirs and theirs[-1].option == option.Variadic)
        letters = ours.rstrip("*")
        assert len(letters) <= len(theirs)
        for letter, parameter in zip(letters, theirs, strict=False):
            assert letter == "x" or parameter.option == option.Optional
        assert all(parameter.option == option.Optional for parameter in theirs[len(letters) :])
    for name in form.attributes:
        assert int(schema.attributes[name].type.value) == allowed_ops.ATTRIBUTES[name].kind
    needed = {name for name, attribute in schema.attributes.items() if attribute.required}
    assert needed <= set(form.attributes)


def test_every_attribute_belongs_to_an_operator():
    assert set(allowed_ops.ATTRIBUTES) == {name for form in allowed_ops.FORMS.values() for name in form.attributes}
