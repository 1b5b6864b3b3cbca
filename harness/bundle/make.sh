# Sourced by attnbench: what the build needs of Debian's packages, in one folder for machines that have none.
# shellcheck shell=bash

kBundlePackages=(libfmt-dev libeigen3-dev libbenchmark-dev nlohmann-json3-dev libcli11-dev libtomlplusplus-dev libhwy-dev
  libhwloc-dev libudev1)
kBundleHeaders=(fmt eigen3/Eigen eigen3/signature_of_eigen3_matrix_library benchmark nlohmann CLI toml++ hwy hwloc hwloc.h)

# library_file NAME: the file that the linker would take.
library_file() {
  local path
  path=$(readlink -f -- "$("${CXX:-g++}" -print-file-name="$1")")
  [[ -f $path ]] || fail "cannot make a bundle: the library $1 was not found"
  printf '%s' "$path"
}

# copy_library NAME FOLDER: under the name that programs look for when they start, which is printed.
copy_library() {
  local from soname
  from=$(library_file "$1")
  soname=$(objdump -p "$from" | sed -n 's/^ *SONAME *//p')
  cp "$from" "$2/${soname:-$1}"
  printf '%s' "${soname:-$1}"
}

# version_of PACKAGE: without Debian's own suffixes.
version_of() { dpkg-query --show --showformat '${source:Upstream-Version}' "$1" | sed 's/+.*//'; }

# python_headers FILE: the folder of headers that some Python's wheels brought, with this file in it.
python_headers() {
  local python folder
  for python in ${ATTNBENCH_PYTHON-} "$ATTN_ROOT/.venv/bin/python3" python3; do
    folder=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])' 2>/dev/null)/include || continue
    [[ -f $folder/$1 ]] && printf '%s' "$folder" && return
  done
  true
}

# make_bundle DIR
make_bundle() {
  local bundle=$1 header package frontend benchmark hwy
  [[ ! -e $bundle ]] || [[ -f $bundle/attnbench_bundleConfig.cmake ]] || fail "$bundle exists and is no bundle: give another folder"
  command -v dpkg-query >/dev/null || fail "a bundle is made from Debian's packages: make it on Debian 12"
  install_packages "${kBuildPackages[@]}" libudev1
  rm -rf "$bundle"
  mkdir -p "$bundle"/{include/eigen3,lib,licences}
  for header in "${kBundleHeaders[@]}"; do
    cp -rL "/usr/include/$header" "$bundle/include/$header"
  done
  # hwloc's configuration lies in the architecture's own folder.
  cp "$(dpkg-query --listfiles libhwloc-dev | grep '/hwloc/autogen/config\.h$')" "$bundle/include/hwloc/autogen/"
  benchmark=$(copy_library libbenchmark.so "$bundle/lib")
  hwy=$(copy_library libhwy.so "$bundle/lib")
  copy_library libhwloc.a "$bundle/lib" >/dev/null
  copy_library libudev.so.1 "$bundle/lib" >/dev/null
  for package in "${kBundlePackages[@]}"; do
    cp "/usr/share/doc/$package/copyright" "$bundle/licences/$package"
  done
  frontend=$(python_headers cudnn_frontend.h)
  if [[ -n $frontend ]]; then
    cp -r "$frontend"/cudnn_* "$bundle/include/"
    cat "$frontend"/../nvidia_cudnn_frontend-*.dist-info/licenses/LICENSE* >"$bundle/licences/nvidia-cudnn-frontend"
  fi
  sed -e "s/@FMT@/$(version_of libfmt-dev)/" -e "s/@EIGEN@/$(version_of libeigen3-dev)/" \
    -e "s/@BENCHMARK@/$(version_of libbenchmark-dev)/" -e "s/@HWY@/$(version_of libhwy-dev)/" \
    -e "s/@HWLOC@/$(version_of libhwloc-dev)/" -e "s/@BENCHMARK_LIBRARY@/$benchmark/" -e "s/@HWY_LIBRARY@/$hwy/" \
    "$ATTN_ROOT/harness/bundle/attnbench_bundleConfig.cmake.in" >"$bundle/attnbench_bundleConfig.cmake"
  say "$bundle: $(du -sm --apparent-size "$bundle" | cut -f1) MiB; build elsewhere with -DCMAKE_PREFIX_PATH=$bundle"
}
