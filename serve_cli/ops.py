"""The operators that a sealed graph may use: arithmetic over tensors, and nothing else.

The one place that says so: the exporter checks against it, and the reader refuses what is not in it. Left out on
purpose: control flow (Loop, Scan, If), anything random, strings, sequences, and training modes. An operator
that makes large tensors out of small ones is safe here, for a session's memory is capped.
"""

_ELEMENTWISE = """
Abs Acos Acosh Add And Asin Asinh Atan Atanh Cast CastLike Ceil Celu Clip Cos Cosh Div Elu Equal Erf Exp Floor Gelu
Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod
Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Tan Tanh
ThresholdedRelu Where Xor
"""

_LAYERS = """
AveragePool BatchNormalization Conv ConvTranspose GRU Gemm GlobalAveragePool GlobalMaxPool GroupNormalization
InstanceNormalization LSTM LayerNormalization MatMul MaxPool RNN
"""

_REDUCTIONS = """
ArgMax ArgMin CumSum LogSoftmax ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
ReduceProd ReduceSum ReduceSumSquare Softmax TopK
"""

_SHAPES_AND_PICKING = """
Concat Constant ConstantOfShape DepthToSpace Einsum Expand Flatten Gather GatherElements GatherND OneHot Pad Range
Reshape Resize ReverseSequence ScatterElements ScatterND Shape Size Slice SpaceToDepth Split Squeeze Tile Transpose
Trilu Unsqueeze
"""

ALLOWED_OPS = frozenset((_ELEMENTWISE + _LAYERS + _REDUCTIONS + _SHAPES_AND_PICKING).split())
