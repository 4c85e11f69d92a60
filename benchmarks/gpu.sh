#!/usr/bin/env bash
# The runs that want a GPU, one command each:
#   bash benchmarks/gpu.sh speed         examples a second against hand-written loops: OUT/speed.json
#   bash benchmarks/gpu.sh iwae-paper    784-200-200-50 for the 3280 epochs of Burda et al. (2016): OUT/iwae-paper
#   bash benchmarks/gpu.sh gated         2 x 300 gated for 2000 epochs: OUT/gated
#   bash benchmarks/gpu.sh beta-sweep    the protocol of Locatello et al. (2019), 5 seeds of 5 betas: OUT/sweep/study/report.html
#   bash benchmarks/gpu.sh evaluate RUN  export and NLL of what was trained; needs TensorFlow, but no GPU
# A command that was cut off goes on where it was when it is given again. $PYTHON is the interpreter, $MNIST a folder of
# MNIST's IDX files (by default they are downloaded), $OUT where things go (gpu-runs). Further arguments are passed on,
# such as --epochs 10. Where there is no TensorFlow, Keras runs on JAX, and what was trained is evaluated elsewhere.
set -euo pipefail
here="$(cd "$(dirname "$0")/.." && pwd)"
python="${PYTHON:-python3}" mnist="${MNIST:-mnist}" out="${OUT:-gpu-runs}"
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"

has() { "$python" -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('$1') is None)"; }
check=()
if ! has tensorflow; then
  export KERAS_BACKEND="${KERAS_BACKEND:-jax}"
  check=(--no-export-check) # an export is TensorFlow's
fi

# train PRESET EPOCHS ...: the recipe of a preset, longer.
train() {
  local run="$out/$1"
  if [ -e "$run/run.json" ]; then
    time "$python" -m kvae train --resume "$run" "${@:3}"
  else
    time "$python" -m kvae train --preset "$1" --epochs "$2" --data "$mnist" --seed 1 -o "$run" "${check[@]}" "${@:3}"
  fi
}

what="${1:?speed, iwae-paper, gated, beta-sweep or evaluate}"
shift
case "$what" in
  speed | iwae-paper | gated | beta-sweep) mkdir -p "$out" ;;
esac
case "$what" in
  speed) "$python" "$here/benchmarks/training_speed.py" --device gpu --json "$out/speed.json" "$@" ;;
  iwae-paper) train iwae-paper 3280 "$@" ;;
  gated) train gated 2000 "$@" ;;
  beta-sweep)
    time "$python" "$here/benchmarks/beta_sweep.py" --case full --seeds 5 -o "$out/sweep" "$@"
    ;;
  evaluate)
    run="${1:?a folder that kvae train made}" run="${1%/}"
    shift
    has tensorflow || { echo "An export needs TensorFlow: take $run to where it is." >&2; exit 3; }
    "$python" -m kvae export "$run" -o "$run-onnx" --force
    # Further arguments come last, so that they win.
    "$python" -m kvae evaluate -m "$run-onnx" --data "$mnist" --num-samples 5000 \
      -o "$run-evaluation.json" --force "$@"
    "$python" -c "import json, sys; nll = json.load(open(sys.argv[1]))['figures']['nll']; print('NLL', nll['mean'], nll['unit'])" \
      "$run-evaluation.json"
    ;;
  *)
    echo "There is no $what: speed, iwae-paper, gated, beta-sweep or evaluate." >&2
    exit 2
    ;;
esac
