// One program for all targets, which its environment chooses from: compiling takes longer than fuzzing for a while.
#include "targets.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

void (*target)(tensorwire::ChunkInput) = nullptr;

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  const struct {
    const char* name;
    void (*run)(tensorwire::ChunkInput);
  } targets[] = {{"decode", tensorwire::decodeAnything},
                 {"unpack", tensorwire::unpackAnything},
                 {"encode", tensorwire::encodeAnything}};
  const char* wanted = getenv("TENSORWIRE_FUZZ");
  for (const auto& [name, run] : targets) {
    if (wanted != nullptr && strcmp(wanted, name) == 0) target = run;
  }
  if (target == nullptr) {
    fprintf(stderr, "TENSORWIRE_FUZZ is none of decode, unpack, encode\n");
    exit(2);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  target(tensorwire::ChunkInput(data, size));
  return 0;
}
