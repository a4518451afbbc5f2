import {
  type CodecBackend,
  type CodecRegistry,
  type DecodeJob,
  type EncodedChunk,
  type EncodeJob,
  segmentsOf,
  TensorwireError,
} from "@tensorwire/core";
import type { DeviceChunk } from "./device-codec.js";
import type { Place, Transport } from "./transport.js";

/** A chunk's way through the device, and what the host adds to it: its hash, its envelope, and whether its payload is sound. */
export class ChunkPassage {
  constructor(
    private readonly transport: Transport,
    private readonly host: CodecBackend,
    private readonly registry: CodecRegistry,
  ) {}

  async encode(job: EncodeJob, chunk: DeviceChunk, source: Place): Promise<EncodedChunk> {
    const { codec, dtype, elements, target, packed, signal } = job;
    const { payloadBytes: bytes, scaleBytes } = chunk;
    if (target.length < bytes) {
      const message = `${codec.name}: the target needs ${bytes} bytes and has ${target.length}`;
      throw new TensorwireError("INVALID_ARGUMENT", message);
    }
    const payload = target.subarray(0, bytes);
    const { nonFinite, clamped } = await this.transport.encode(chunk, source, payload, signal);
    refuseAborted(signal);
    const found = { bytes, scaleBytes, nonFinite, clamped };
    const { host, registry } = this;
    if (packed === undefined || nonFinite > 0) return { ...found, hash: await host.hash(payload, signal) };
    const segments = segmentsOf(registry.get(codec.name), codec, dtype, elements, bytes);
    return { ...found, ...(await host.pack({ payload, segments, packed, signal })) };
  }

  async decode(job: DecodeJob, chunk: DeviceChunk, target: Place): Promise<void> {
    const payload = await this.#verified(job, chunk);
    await this.transport.decode(chunk, payload, target, job.signal);
    refuseAborted(job.signal);
  }

  /** The payload as its codec made it, if it has the length and the hash that it should have. */
  async #verified(job: DecodeJob, chunk: DeviceChunk): Promise<Uint8Array> {
    const { codec, dtype, elements, payload, unpacked, hash, signal } = job;
    const { host, registry } = this;
    const made = unpacked ?? payload;
    if (made.length !== chunk.payloadBytes) {
      const expected = `${codec.name}: the payload of ${elements} elements is ${chunk.payloadBytes} bytes`;
      throw new TensorwireError("PAYLOAD_INVALID", `${expected}, this one has ${made.length}`);
    }
    let found: bigint | undefined;
    if (unpacked !== undefined) {
      const segments = segmentsOf(registry.get(codec.name), codec, dtype, elements, unpacked.length);
      found = await host.unpack({ packed: payload, segments, payload: unpacked, signal });
    } else if (hash !== undefined) {
      found = await host.hash(payload, signal);
    }
    if (hash === undefined || found === hash) return made;
    const expected = hash.toString(16).padStart(16, "0");
    throw new TensorwireError(
      "CHUNK_CORRUPT",
      `the payload's xxh64 is not ${expected}: it changed on its way`,
    );
  }
}

function refuseAborted(signal: AbortSignal | undefined): void {
  if (!signal?.aborted) return;
  throw new TensorwireError("ABORTED", "the job was cancelled", { cause: signal.reason });
}
