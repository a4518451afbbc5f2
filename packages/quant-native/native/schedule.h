// Jobs on libuv's worker threads. One Schedule for each environment (main thread, worker) that loaded the addon.
#pragma once

#include "arguments.h"
#include "sum_chunk.h"

namespace tensorwire {

// What an encode job finds, by place; src/addon.ts has the same places.
enum Found : size_t { kBytes, kScaleBytes, kNonFinite, kClamped, kPackedBytes, kDeclined, kSlow, kFound };

// What to do with bytes that someone keeps alive, and what came of it.
struct Job {
  enum class Kind { kEncode, kDecode, kHash, kPack, kUnpack, kAccumulate, kInspect };

  Job(Kind which, double* numbers) : kind(which), found(numbers) {}

  Kind kind;
  double* found;  // kFound numbers, where results leave what is not a hash
  const Kernels* kernels = nullptr;
  ChunkShape shape = {};
  Bytes input;
  Bytes output;                     // kAccumulate: the sums; none for kHash and kInspect
  Bytes packing;                    // kEncode: takes the envelope; kDecode, kAccumulate, kInspect: room for the payload; none where not packed
  Segments segments;                // kPack, kUnpack
  DType outputDType = DType::kRaw;  // kDecode, kAccumulate, kInspect
  bool verifies = false;            // kDecode, kAccumulate, kInspect: whether there is a hash
  uint64_t hash = 0;                // kDecode, kAccumulate, kInspect: what the payload's must be
  double weight = 0;                // kAccumulate

  // The result, by the kind.
  EncodedChunk encoded;
  Verdict verdict = Verdict::kIntact;
  uint64_t hashed = 0;
  PackedPayload packed;
  UnpackedPayload unpacked;

  TravelledPayload travelled() const;
  void run();
  // The result as JavaScript takes it, at once: see src/addon.ts. Making an object of it would cost more than encoding a
  // small chunk does.
  napi_value result(napi_env env) const;
};

struct QueuedJob;

class Schedule {
 public:
  explicit Schedule(napi_env env) : env_(env) {}

  // Runs `job` on a worker thread, and then calls `callback` on this one with its result, or with undefined if it was
  // cancelled, or with null if there was no memory for it. The job's buffers are kept alive till then. Returns the job's number, or 0 after throwing.
  uint32_t queue(const Job& job, napi_value callback);

  // Takes a job that has not begun out of the queue; its callback follows. Otherwise it simply completes.
  bool cancel(uint32_t number);

 private:
  static void execute(napi_env env, void* data);
  static void complete(napi_env env, napi_status status, void* data);
  void forget(QueuedJob* queued);

  napi_env env_;
  QueuedJob* first_ = nullptr;
  uint32_t lastNumber_ = 0;
};

}  // namespace tensorwire
