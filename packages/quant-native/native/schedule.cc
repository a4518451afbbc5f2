#include "schedule.h"

#include "c_heap.h"

namespace tensorwire {

// In a list of all that have not completed: a dozen at most, since a window's chunks are all that can be waiting.
struct QueuedJob : CHeap {
  explicit QueuedJob(const Job& what) : job(what) {}

  Job job;
  uint32_t number = 0;
  Schedule* schedule = nullptr;
  QueuedJob* next = nullptr;
  napi_async_work work = nullptr;
  napi_ref input = nullptr;
  napi_ref output = nullptr;
  napi_ref packing = nullptr;
  napi_ref callback = nullptr;
};

TravelledPayload Job::travelled() const {
  TravelledPayload payload;
  payload.data = input.data;
  payload.length = input.length;
  payload.verifies = verifies;
  payload.hash = hash;
  payload.packed = packing.view != nullptr;
  payload.unpacked = packing.data;
  payload.unpackedLength = packing.length;
  return payload;
}

void Job::run() {
  switch (kind) {
    case Kind::kEncode:
      encoded = encodeChunk(*kernels, shape, input.data, output.data, {packing.data, packing.length});
      break;
    case Kind::kDecode:
      verdict = decodeChunk(*kernels, shape, travelled(), outputDType, output.data);
      break;
    case Kind::kAccumulate:
      verdict = accumulateChunk(*kernels, shape, travelled(), weight, outputDType, output.data);
      break;
    case Kind::kInspect:
      verdict = inspectChunk(*kernels, shape, travelled(), outputDType);
      break;
    case Kind::kHash:
      hashed = hashBytes(input.data, input.length);
      break;
    case Kind::kPack:
      packed = packBytes(input.data, segments, {output.data, output.length});
      break;
    case Kind::kUnpack:
      unpacked = unpackBytes(input.data, input.length, segments, output.data);
      break;
  }
}

namespace {

napi_value bigint(napi_env env, uint64_t number) {
  napi_value value = nullptr;
  napi_create_bigint_uint64(env, number, &value);
  return value;
}

}  // namespace

napi_value Job::result(napi_env env) const {
  napi_value value = nullptr;
  switch (kind) {
    case Kind::kEncode:
      found[kBytes] = static_cast<double>(encoded.bytes);
      found[kScaleBytes] = static_cast<double>(encoded.scaleBytes);
      found[kNonFinite] = static_cast<double>(encoded.counts.nonFinite);
      found[kClamped] = static_cast<double>(encoded.counts.clamped);
      found[kPackedBytes] = static_cast<double>(encoded.packedBytes);
      found[kDeclined] = encoded.declined;
      found[kSlow] = static_cast<double>(encoded.counts.slow);
      if (encoded.done) return bigint(env, encoded.hash);
      napi_get_null(env, &value);
      return value;
    case Kind::kDecode:
    case Kind::kAccumulate:
    case Kind::kInspect:
      napi_create_uint32(env, static_cast<uint32_t>(verdict), &value);
      return value;
    case Kind::kHash:
      return bigint(env, hashed);
    case Kind::kPack:
      found[kPackedBytes] = static_cast<double>(packed.packedBytes);
      return bigint(env, packed.hash);
    case Kind::kUnpack:
      if (unpacked.valid) return bigint(env, unpacked.hash);
      napi_create_uint32(env, static_cast<uint32_t>(Verdict::kNoEnvelope), &value);
      return value;
  }
  return value;
}

uint32_t Schedule::queue(const Job& job, napi_value callback) {
  auto* queued = new (std::nothrow) QueuedJob(job);
  if (queued != nullptr) {
    queued->schedule = this;
    // 0 is nobody's number, and one that is still in use does not come again before 2^32 jobs have.
    queued->number = ++lastNumber_ == 0 ? ++lastNumber_ : lastNumber_;
    napi_value name;
    if (napi_create_string_utf8(env_, "tensorwire", NAPI_AUTO_LENGTH, &name) == napi_ok &&
        napi_create_reference(env_, job.input.view, 1, &queued->input) == napi_ok &&
        (job.output.view == nullptr ||
         napi_create_reference(env_, job.output.view, 1, &queued->output) == napi_ok) &&
        (job.packing.view == nullptr ||
         napi_create_reference(env_, job.packing.view, 1, &queued->packing) == napi_ok) &&
        napi_create_reference(env_, callback, 1, &queued->callback) == napi_ok &&
        napi_create_async_work(env_, nullptr, name, execute, complete, queued, &queued->work) == napi_ok &&
        napi_queue_async_work(env_, queued->work) == napi_ok) {
      queued->next = first_;
      first_ = queued;
      return queued->number;
    }
    forget(queued);
  }
  napi_throw_error(env_, "INTERNAL", "a job cannot be queued");
  return 0;
}

bool Schedule::cancel(uint32_t number) {
  for (QueuedJob* queued = first_; queued != nullptr; queued = queued->next) {
    if (queued->number == number) return napi_cancel_async_work(env_, queued->work) == napi_ok;
  }
  return false;
}

void Schedule::execute(napi_env, void* data) { static_cast<QueuedJob*>(data)->job.run(); }

void Schedule::complete(napi_env env, napi_status status, void* data) {
  auto* queued = static_cast<QueuedJob*>(data);
  napi_value callback = nullptr, receiver = nullptr, result = nullptr;
  napi_get_reference_value(env, queued->callback, &callback);
  napi_get_undefined(env, &receiver);
  if (status == napi_ok) result = queued->job.result(env);
  else result = receiver;

  Schedule* schedule = queued->schedule;
  for (QueuedJob** link = &schedule->first_; *link != nullptr; link = &(*link)->next) {
    if (*link == queued) {
      *link = queued->next;
      break;
    }
  }
  schedule->forget(queued);

  // Refused while the environment is being torn down, when nobody is waiting any more.
  if (callback != nullptr && result != nullptr) napi_call_function(env, receiver, callback, 1, &result, nullptr);
}

void Schedule::forget(QueuedJob* queued) {
  const napi_ref references[] = {queued->input, queued->output, queued->packing, queued->callback};
  for (napi_ref reference : references) {
    if (reference != nullptr) napi_delete_reference(env_, reference);
  }
  if (queued->work != nullptr) napi_delete_async_work(env_, queued->work);
  delete queued;
}

}  // namespace tensorwire
