// The N-API face: checks arguments and schedules. Each call takes positional arguments, described in src/addon.ts.

#include "arguments.h"
#include "c_heap.h"
#include "dispatch.h"
#include "schedule.h"
#include "zstd_frame.h"

namespace tensorwire {
namespace {

// What src/addon.ts takes this for. Whoever changes what a call takes, returns or finds, or the bytes that come of it,
// raises both numbers: a file that was built from other sources would be believed otherwise.
constexpr uint32_t kContract = 3;

// Nothing in this addon is static and mutable: what it must remember belongs to one environment.
struct Instance : CHeap {
  explicit Instance(napi_env env) : schedule(env) {}

  Schedule schedule;
  const Kernels* kernels[kMaxIsas] = {};
  size_t isas = 0;
  double* found = nullptr;  // the memory of `found`, which is kept alive
};

Instance* instanceOf(napi_env env) {
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  return static_cast<Instance*>(data);
}

// Runs a job at once and returns its result, or with a callback queues it and returns its number.
napi_value start(napi_env env, Instance* instance, Job job, napi_value callback) {
  if (callback == nullptr) {
    job.run();
    return job.result(env);
  }
  const uint32_t number = instance->schedule.queue(job, callback);
  napi_value value = nullptr;
  if (number != 0) napi_create_uint32(env, number, &value);
  return value;
}

// encode(isa, codec, block, dtype, elements, source, target, callback?, options?, packed?, tensor?, first?)
napi_value encode(napi_env env, napi_callback_info info) {
  Instance* instance = instanceOf(env);
  Arguments arguments(env, info);
  Job job(Job::Kind::kEncode, instance->found);
  job.kernels = instance->kernels[arguments.integer(0, "the instruction set", instance->isas - 1)];
  job.shape = arguments.shape(1, 8);
  job.input = arguments.bytes(5, "source");
  job.output = arguments.bytes(6, "target");
  const napi_value callback = arguments.callback(7);
  job.packing = arguments.optionalBytes(9, "packed target");
  arguments.position(10, job.shape);
  if (!arguments.ok()) return nullptr;
  arguments.require(job.input, job.shape.sourceBytes(), "source");
  arguments.require(job.output, job.shape.payload(), "target");
  return arguments.ok() ? start(env, instance, job, callback) : nullptr;
}

void requirePayload(Arguments& arguments, const Job& job) {
  if (!arguments.ok() || job.shape.canBe(job.packing.view != nullptr ? job.packing.length : job.input.length)) return;
  arguments.fail("PAYLOAD_INVALID", "the payload does not have the length of this many elements");
}

// decode(isa, codec, block, dtype, elements, payload, hash?, output, target, callback?, options?, unpacked?)
napi_value decode(napi_env env, napi_callback_info info) {
  Instance* instance = instanceOf(env);
  Arguments arguments(env, info);
  Job job(Job::Kind::kDecode, instance->found);
  job.kernels = instance->kernels[arguments.integer(0, "the instruction set", instance->isas - 1)];
  job.shape = arguments.shape(1, 10);
  job.input = arguments.bytes(5, "payload");
  job.hash = arguments.optionalHash(6, job.verifies);
  job.outputDType = arguments.output(7, job.shape);
  job.output = arguments.bytes(8, "target");
  const napi_value callback = arguments.callback(9);
  job.packing = arguments.optionalBytes(11, "room for the unpacked payload");
  requirePayload(arguments, job);
  arguments.require(job.output, job.shape.elements * elementBytes(job.outputDType), "target");
  return arguments.ok() ? start(env, instance, job, callback) : nullptr;
}

// accumulate(isa, codec, block, dtype, elements, payload, hash?, weight, sums, callback?, options?, unpacked?)
napi_value accumulate(napi_env env, napi_callback_info info) {
  Instance* instance = instanceOf(env);
  Arguments arguments(env, info);
  Job job(Job::Kind::kAccumulate, instance->found);
  job.kernels = instance->kernels[arguments.integer(0, "the instruction set", instance->isas - 1)];
  job.shape = arguments.shape(1, 10);
  job.input = arguments.bytes(5, "payload");
  job.hash = arguments.optionalHash(6, job.verifies);
  job.output = arguments.sums(8, job.outputDType);
  job.weight = arguments.weight(7, job.outputDType);
  const napi_value callback = arguments.callback(9);
  job.packing = arguments.optionalBytes(11, "room for the unpacked payload");
  arguments.requireFloats(job.shape);
  requirePayload(arguments, job);
  arguments.require(job.output, job.shape.elements * elementBytes(job.outputDType), "accumulator");
  return arguments.ok() ? start(env, instance, job, callback) : nullptr;
}

// inspect(isa, codec, block, dtype, elements, payload, hash?, output, callback?, options?, unpacked?)
napi_value inspect(napi_env env, napi_callback_info info) {
  Instance* instance = instanceOf(env);
  Arguments arguments(env, info);
  Job job(Job::Kind::kInspect, instance->found);
  job.kernels = instance->kernels[arguments.integer(0, "the instruction set", instance->isas - 1)];
  job.shape = arguments.shape(1, 9);
  job.input = arguments.bytes(5, "payload");
  job.hash = arguments.optionalHash(6, job.verifies);
  job.outputDType = arguments.output(7, job.shape);
  const napi_value callback = arguments.callback(8);
  job.packing = arguments.optionalBytes(10, "room for the unpacked payload");
  arguments.requireFloats(job.shape);
  if (arguments.ok() && job.outputDType != DType::kF32 && job.outputDType != DType::kF64) {
    arguments.fail("INVALID_ARGUMENT", "values are looked at as F32 or F64");
  }
  requirePayload(arguments, job);
  return arguments.ok() ? start(env, instance, job, callback) : nullptr;
}

// hash(bytes, callback?)
napi_value hash(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  Job job(Job::Kind::kHash, instanceOf(env)->found);
  job.input = arguments.bytes(0, "hashed view");
  const napi_value callback = arguments.callback(1);
  return arguments.ok() ? start(env, instanceOf(env), job, callback) : nullptr;
}

// pack(payload, segments, packed, callback?) and unpack(packed, segments, payload, callback?)
napi_value repack(napi_env env, napi_callback_info info, Job::Kind kind) {
  Arguments arguments(env, info);
  Job job(kind, instanceOf(env)->found);
  // First: an array's elements can be getters, which can do anything to the views.
  job.segments = arguments.segments(1);
  job.input = arguments.bytes(0, "source");
  job.output = arguments.bytes(2, "target");
  const napi_value callback = arguments.callback(3);
  if (!arguments.ok()) return nullptr;
  const Bytes& payload = kind == Job::Kind::kPack ? job.input : job.output;
  if (payload.length != job.segments.total()) {
    arguments.fail("INVALID_ARGUMENT", "the payload is not as long as its segments");
  }
  return arguments.ok() ? start(env, instanceOf(env), job, callback) : nullptr;
}

napi_value pack(napi_env env, napi_callback_info info) { return repack(env, info, Job::Kind::kPack); }
napi_value unpack(napi_env env, napi_callback_info info) { return repack(env, info, Job::Kind::kUnpack); }

// makeFrame(bytes, target): the frame's length, or 0
napi_value makeFrame(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const Bytes bytes = arguments.bytes(0, "source"), target = arguments.bytes(1, "target");
  if (!arguments.ok()) return nullptr;
  napi_value value = nullptr;
  const size_t length = tensorwire::makeFrame(FrameEffort::kWeights, bytes.data, bytes.length, target.data, target.length);
  napi_create_int64(env, static_cast<int64_t>(length), &value);
  return value;
}

// openFrame(frame, target): whether the target is filled
napi_value openFrame(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const Bytes frame = arguments.bytes(0, "frame"), target = arguments.bytes(1, "target");
  if (!arguments.ok()) return nullptr;
  napi_value value = nullptr;
  napi_get_boolean(env, tensorwire::openFrame(frame.data, frame.length, target.data, target.length), &value);
  return value;
}

// cancel(number): whether the job had not begun
napi_value cancel(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const uint64_t number = arguments.integer(0, "the job", UINT32_MAX);
  napi_value value = nullptr;
  if (arguments.ok()) {
    napi_get_boolean(env, instanceOf(env)->schedule.cancel(static_cast<uint32_t>(number)), &value);
  }
  return value;
}

// addressOffset(buffer, modulo): the address of an ArrayBuffer's first byte modulo a power of two
napi_value addressOffset(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const uint64_t modulo = arguments.integer(1, "the modulo", uint64_t{1} << 30);
  if (!arguments.ok()) return nullptr;
  void* data = nullptr;
  size_t length = 0;
  if (modulo == 0 || (modulo & (modulo - 1)) != 0) {
    arguments.fail("INVALID_ARGUMENT", "the modulo is not a power of two");
  } else if (napi_get_arraybuffer_info(env, arguments.value(0), &data, &length) != napi_ok) {
    arguments.fail("INVALID_ARGUMENT", "this is not an ArrayBuffer");
  }
  if (!arguments.ok()) return nullptr;
  napi_value value = nullptr;
  napi_create_uint32(env, static_cast<uint32_t>(reinterpret_cast<uintptr_t>(data) & (modulo - 1)), &value);
  return value;
}

// found: numbers of the latest result, by place
napi_value foundArray(napi_env env, Instance& instance) {
  void* data = nullptr;
  napi_value buffer = nullptr, array = nullptr;
  napi_ref reference = nullptr;
  // The reference is never given up: results are written there as long as there is an instance.
  if (napi_create_arraybuffer(env, kFound * sizeof(double), &data, &buffer) == napi_ok &&
      napi_create_reference(env, buffer, 1, &reference) == napi_ok &&
      napi_create_typedarray(env, napi_float64_array, kFound, buffer, 0, &array) == napi_ok) {
    instance.found = static_cast<double*>(data);
  }
  return array;
}

// isas: names of the usable instruction sets, fastest first; calls give an index into it
napi_value isaNames(napi_env env, const Instance& instance) {
  napi_value names = nullptr, name = nullptr;
  napi_create_array_with_length(env, instance.isas, &names);
  for (size_t i = 0; i < instance.isas; i++) {
    napi_create_string_utf8(env, instance.kernels[i]->isa, NAPI_AUTO_LENGTH, &name);
    napi_set_element(env, names, static_cast<uint32_t>(i), name);
  }
  return names;
}

}  // namespace
}  // namespace tensorwire

NAPI_MODULE_INIT() {
  using namespace tensorwire;
  auto* instance = new (std::nothrow) Instance(env);
  if (instance == nullptr) return nullptr;
  instance->isas = usableKernels(instance->kernels);
  const auto release = [](napi_env, void* data, void*) {
    delete static_cast<Instance*>(data);
    forgetFrames();
  };
  if (napi_set_instance_data(env, instance, release, nullptr) != napi_ok) {
    delete instance;
    return nullptr;
  }
  napi_value packs = nullptr, contract = nullptr;
  const napi_value found = foundArray(env, *instance);
  if (found == nullptr) return nullptr;
  napi_get_boolean(env, hasZstd(), &packs);
  napi_create_uint32(env, kContract, &contract);
  const napi_property_descriptor properties[] = {
      {"encode", nullptr, encode, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"decode", nullptr, decode, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"accumulate", nullptr, accumulate, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"inspect", nullptr, inspect, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"hash", nullptr, hash, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"pack", nullptr, pack, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"unpack", nullptr, unpack, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"makeFrame", nullptr, makeFrame, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"openFrame", nullptr, openFrame, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"cancel", nullptr, cancel, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"addressOffset", nullptr, addressOffset, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"isas", nullptr, nullptr, nullptr, nullptr, isaNames(env, *instance), napi_enumerable, nullptr},
      {"found", nullptr, nullptr, nullptr, nullptr, found, napi_enumerable, nullptr},
      {"packs", nullptr, nullptr, nullptr, nullptr, packs, napi_enumerable, nullptr},
      {"contract", nullptr, nullptr, nullptr, nullptr, contract, napi_enumerable, nullptr},
  };
  napi_define_properties(env, exports, sizeof properties / sizeof properties[0], properties);
  return exports;
}
