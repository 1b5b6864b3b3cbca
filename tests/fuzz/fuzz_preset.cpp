// The TOML file of a preset, and a command line over it.

#include "harness/campaign/preset.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace attn;
  static MemoryFile file;
  file.hold(data, size);
  Preset preset;
  if (!accepts([&] { preset = read_preset(file.path); })) return 0;
  require(!preset.sweeps.empty());
  const Preset changed = override_preset(preset, {{"d", {"64"}}, {"seed", {"3"}}});
  require(changed.sweeps.front().count("d-head") == 0);
  return 0;
}
