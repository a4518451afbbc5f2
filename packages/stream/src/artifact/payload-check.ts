import {
  type Chunk,
  type ChunkRecord,
  type CodecBackend,
  type CodecRegistry,
  type Manifest,
  segmentsOf,
  TensorwireError,
} from "@tensorwire/core";
import { specOf } from "../session/exact.js";

/** Verifies payloads of an artifact against their records. */
export class PayloadCheck {
  constructor(
    private readonly manifest: Manifest,
    private readonly backend: Pick<CodecBackend, "hash" | "unpack">,
    private readonly registry: CodecRegistry,
  ) {}

  /**
   * @param unpacked Where the payload is to be, if it is packed.
   * @returns What is wrong with it, if anything.
   */
  async fault(
    { tensor, elements }: Chunk,
    { codec: id, hash, payloadBytes }: Pick<ChunkRecord, "codec" | "hash" | "payloadBytes">,
    bytes: Uint8Array,
    unpacked: Uint8Array | undefined,
  ): Promise<string | undefined> {
    const { codec: spec, dtype } = this.manifest.tensors[tensor]!;
    const codec = this.registry.byId(id);
    try {
      const found = unpacked
        ? await this.backend.unpack({
            packed: bytes,
            segments: segmentsOf(codec, specOf(codec, spec) ?? spec, dtype, elements, payloadBytes),
            payload: unpacked,
          })
        : await this.backend.hash(bytes);
      return found === hash ? undefined : "the payload does not match its hash";
    } catch (error) {
      if (error instanceof TensorwireError && error.code === "PAYLOAD_INVALID") return error.message;
      throw error;
    }
  }
}
