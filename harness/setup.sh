# Sourced by attnbench, tests/run and .ci/run: the packages of Debian 12, and building what they need.
# shellcheck shell=bash

kBuildPackages=(g++ cmake ninja-build pkg-config libbenchmark-dev libeigen3-dev libhwy-dev libfmt-dev libcli11-dev
  nlohmann-json3-dev libtomlplusplus-dev libhwloc-dev libopenblas-openmp-dev)
# The other BLAS that CMake can be asked for.
[[ ${ATTNBENCH_CMAKE_ARGS-} == *ATTN_BLAS=blis* ]] && kBuildPackages+=(libblis-openmp-dev)
kReportPackages=(python3 python3-numpy python3-matplotlib python3-pandas python3-scipy python3-jinja2)
kTestPackages=(catch2 python3-pytest chromium)
kClusterPackages=(slurm-wlm munge)
kStylePackages=(clang-format-14)
kClangPackages=(clang-14 libclang-rt-14-dev libomp-14-dev)
kPeerPackages=(python3-venv)
kPeerWheels=(torch onnxruntime openvino)

say() { printf 'attnbench: %s\n' "$*" >&2; }
fail() {
  say "$*"
  exit 1
}

# run_quietly LOG COMMAND...: shows the output only where the command fails.
run_quietly() {
  local log=$1
  shift
  "$@" >"$log" 2>&1 </dev/null && return
  cat "$log" >&2
  return 1
}

missing_packages() {
  local installed
  # dpkg-query fails where it does not know one of the names: that is an answer here, no error.
  installed=$({ dpkg-query --show --showformat '${db:Status-Abbrev}${Package}\n' "$@" 2>/dev/null || true; } |
    sed -n 's/^.i //p')
  printf '%s\n' "$@" | grep -vxF -e "$installed" || true
}

# install_packages NAME...: does nothing where dpkg has them all, or where there is no dpkg.
install_packages() {
  command -v dpkg-query >/dev/null || return 0
  local missing as_root=()
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]})) || return 0
  if ((EUID != 0)); then
    command -v sudo >/dev/null || fail "missing packages; as root, run: apt-get install ${missing[*]}"
    as_root=(sudo)
    [[ -t 0 ]] || as_root+=(-n)
  fi
  say "installing ${missing[*]}"
  local log apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300)
  log=$(mktemp)
  run_quietly "$log" "${apt[@]}" update &&
    run_quietly "$log" "${apt[@]}" install --no-install-recommends "${missing[@]}" ||
    fail "cannot install the packages above; as root, run: apt-get install ${missing[*]}"
  rm -f "$log"
}

# find_bundle: the folder of `attnbench bundle` that the build uses instead of packages, or nothing: ATTNBENCH_BUNDLE, or the
# folder bundle of this checkout.
find_bundle() {
  local folder=${ATTNBENCH_BUNDLE-$ATTN_ROOT/bundle}
  if [[ -f $folder/attnbench_bundleConfig.cmake ]]; then
    readlink -f -- "$folder"
  elif [[ -n ${ATTNBENCH_BUNDLE-} ]]; then
    say "ATTNBENCH_BUNDLE is '$folder', where no bundle is: make one with 'attnbench bundle DIR', or unset it"
    return 2
  fi
}

# install_peers: other people's libraries, from PyPI into a virtual environment of this checkout.
install_peers() {
  local environment=$ATTN_ROOT/.venv
  install_packages "${kPeerPackages[@]}"
  [[ -x $environment/bin/python3 ]] || python3 -m venv "$environment" || fail "cannot make $environment: see above"
  say "installing ${kPeerWheels[*]} in $environment: several gigabytes"
  "$environment/bin/python3" -m pip install --quiet --disable-pip-version-check "${kPeerWheels[@]}" ||
    fail "cannot install the wheels: see above"
  # Its headers alone: what it depends on is for its Python side.
  "$environment/bin/python3" -m pip install --quiet --disable-pip-version-check --no-deps nvidia-cudnn-frontend ||
    fail "cannot install the wheels: see above"
}

# Two campaigns started at once build once. lock_build BUILD makes the folder and waits; unlock_build lets the next one in.
lock_build() {
  mkdir -p "$1"
  exec {build_lock}>"$1/.lock"
  flock "$build_lock"
}
unlock_build() { [[ -z ${build_lock-} ]] || exec {build_lock}>&-; }

# configure BUILD ARGS...: again only where the arguments or the place changed.
configure() {
  local build=$1 key
  shift
  key=$(printf '%s\n' "$ATTN_ROOT" "$@" "${ATTNBENCH_CMAKE_ARGS-}")
  [[ -f $build/build.ninja && $key == "$(cat "$build/.configured" 2>/dev/null)" ]] && return
  rm -rf "$build/CMakeCache.txt" "$build/CMakeFiles" "$build/.configured"
  # shellcheck disable=SC2086  # the variable holds several arguments
  run_quietly "$build/configure.log" cmake -S "$ATTN_ROOT" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
    "$@" ${ATTNBENCH_CMAKE_ARGS-} || {
    command -v dpkg-query >/dev/null || say "on a system other than Debian, install the like of: ${kBuildPackages[*]}"
    fail "configuring failed: see above"
  }
  printf '%s\n' "$key" >"$build/.configured"
}

# with_tests BUILD: ON once tests/run was here; until then the tests' packages are not needed.
with_tests() { [[ -f $1/.with-tests ]] && echo ON || echo OFF; }

# build BUILD TARGETS...: one line where it takes more than a second, on a terminal with ninja's count behind it; everything
# where it fails.
build() {
  local build=$1 built=yes notice
  shift
  # The sleep outlives the subshell by up to a second: it must hold neither the lock nor the caller's pipes.
  (unlock_build && exec </dev/null && sleep 1 >/dev/null 2>&1 && say "building ${*:-everything} in $build" && [[ -t 2 ]] &&
    show_progress "$build/build.log") &
  notice=$!
  run_quietly "$build/build.log" ninja -C "$build" "$@" || built=no
  kill "$notice" 2>/dev/null || true
  wait "$notice" 2>/dev/null || true
  [[ $built == yes ]] || fail "the build failed: see above"
}

# show_progress LOG: ninja's count of steps, in one line, until killed.
show_progress() {
  trap "printf '\\r\\033[K' >&2; exit" TERM
  while sleep 1 >/dev/null 2>&1; do
    printf '\rattnbench: %s ' "$(grep -o '^\[[0-9]*/[0-9]*\]' "$1" | tail -n 1)" >&2
  done
}

# A compiler cache could hand out an object built with other flags than the ones recorded.
export CCACHE_DISABLE=1
unset CMAKE_C_COMPILER_LAUNCHER CMAKE_CXX_COMPILER_LAUNCHER CMAKE_CUDA_COMPILER_LAUNCHER
