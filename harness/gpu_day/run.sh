# Sourced by attnbench: builds for the GPU of this machine alone, then hands over to gpu_day.py. Only the wrapper knows when
# the command began, so the time of the build counts.
# shellcheck shell=bash

# card_architecture: what to compile for, from the compute capability of the first GPU; empty where no driver answers.
card_architecture() {
  local capability
  capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1) || return 0
  case $capability in
    9.0) printf '90a-real' ;;
    [0-9]*.[0-9]) printf '%s-real' "${capability/./}" ;;
  esac
}

# gpu_day ARGS...: the command line, its own name first.
gpu_day() {
  local start=$EPOCHSECONDS folder=$ATTN_ROOT/build-gpu architecture python
  architecture=$(card_architecture)
  # Asked before minutes of building; what needs no GPU goes on.
  if [[ -z $architecture && ! -e /dev/nvidia0 && ! " $* " =~ ' '(--dry-run|--device|-h|--help)[\ =] ]]; then
    say "gpu-day needs a GPU: no NVIDIA driver answers here; --dry-run prints the plan"
    return 2
  fi
  lock_build "$folder"
  configure "$folder" -DBUILD_TESTING=OFF -DATTN_CPU_VARIANTS=OFF ${bundle:+"-DCMAKE_PREFIX_PATH=$bundle"} \
    ${architecture:+"-DCMAKE_CUDA_ARCHITECTURES=$architecture"}
  build "$folder" attnbench
  unlock_build
  for python in ${ATTNBENCH_PYTHON-} python3 /usr/bin/python3; do
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null && break
  done
  shift
  "$python" "$ATTN_ROOT/harness/gpu_day/gpu_day.py" --program "$folder/attnbench" --started "$start" "$@"
}
