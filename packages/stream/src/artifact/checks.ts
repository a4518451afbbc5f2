import {
  type Chunk,
  type ChunkPlan,
  type ChunkRecord,
  type CodecRegistry,
  SHA256_BYTES,
  sameSha256,
  TensorwireError,
  type Totals,
  TransferDigest,
} from "@tensorwire/core";
import { ExpectedChunks } from "../session/expected-chunks.js";
import { sha256Of } from "../session/sha256.js";
import { READ_AHEAD_BYTES } from "../source/source.js";
import type { ArtifactHead } from "./frames.js";

/** Whoever reads payloads has buffers for the largest chunk, and for reading ahead. */
export function largestPayload({ maxChunkBytes }: ChunkPlan): number {
  return Math.max(maxChunkBytes, READ_AHEAD_BYTES);
}

/** What an artifact says of its chunks, in their order, against its manifest and against its END. */
export class ArtifactChecks {
  readonly #expected: ExpectedChunks;
  readonly #digest: TransferDigest;

  constructor(
    private readonly head: ArtifactHead,
    registry: CodecRegistry,
  ) {
    this.#expected = new ExpectedChunks(head.manifest, head.plan, registry);
    this.#digest = new TransferDigest(head.plan);
  }

  /** The chunk that the record is of. @throws TensorwireError `PROTOCOL`, `PAYLOAD_INVALID`. */
  take(record: ChunkRecord): Chunk {
    const chunk = this.#expected.take(record);
    if (record.payloadBytes > largestPayload(this.head.plan)) {
      const message = `a payload of ${record.payloadBytes} bytes, larger than any chunk`;
      throw new TensorwireError("PROTOCOL", message);
    }
    this.#digest.add(chunk.ordinal, record.codec, record.hash);
    return chunk;
  }

  /** @throws TensorwireError `PROTOCOL` where chunks are missing, or END is of others. */
  end({ digest, chunks, sourceBytes }: Totals): void {
    const { manifest, plan, bytes } = this.head;
    this.#expected.end();
    if (digest !== this.#digest.transfer(bytes, manifest.tensors.length)) {
      throw new TensorwireError(
        "PROTOCOL",
        "the END frame's digest is not that of the manifest and the chunks",
      );
    }
    if (chunks !== plan.chunks || sourceBytes !== plan.bytes) {
      throw new TensorwireError(
        "PROTOCOL",
        `the END frame counts ${chunks} chunks of ${sourceBytes} bytes, the manifest ${plan.chunks} of ${plan.bytes}`,
      );
    }
  }
}

/** Whether tensors of these SHA-256 make the transfer's, in a manifest of that integrity. */
export function tensorsMake(
  sha256: Uint8Array | undefined,
  { manifest, bytes }: Pick<ArtifactHead, "manifest" | "bytes">,
  tensor: (i: number) => Uint8Array,
): boolean {
  const hash = sha256Of(manifest);
  if (!hash) return true;
  const digests = new Uint8Array((1 + manifest.tensors.length) * SHA256_BYTES);
  digests.set(hash(bytes));
  manifest.tensors.forEach((_, i) => {
    digests.set(tensor(i), (1 + i) * SHA256_BYTES);
  });
  return sameSha256(hash(digests), sha256);
}
