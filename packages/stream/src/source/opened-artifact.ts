import {
  type CodecBackend,
  type CodecRegistry,
  defaultCodecs,
  type Limits,
  PortableBackend,
  resolveLimits,
} from "@tensorwire/core";
import { type ArtifactIndex, indexArtifact } from "../artifact/contents.js";
import { PayloadCheck } from "../artifact/payload-check.js";
import { PayloadDigests } from "../artifact/payload-digests.js";
import { sha256Of } from "../session/sha256.js";
import { ArtifactMemory } from "./artifact-memory.js";
import type { ByteReader } from "./byte-reader.js";

/** What an artifact is opened with. */
export interface ArtifactTerms {
  readonly limits?: Partial<Limits> | undefined;
  /** Codecs that the artifact may name. */
  readonly registry?: CodecRegistry | undefined;
  /** Unpacks payloads, and hashes them. Default: the portable one. */
  readonly backend?: Pick<CodecBackend, "hash" | "unpack"> | undefined;
}

/** What is known of an artifact once it is open, whoever reads it. */
export class OpenedArtifact {
  readonly memory: ArtifactMemory;

  private constructor(
    readonly index: ArtifactIndex,
    readonly check: PayloadCheck,
    /** With integrity `sha256`. */
    readonly digests: PayloadDigests | undefined,
  ) {
    this.memory = new ArtifactMemory(index);
  }

  /** @throws TensorwireError as `indexArtifact`. */
  static async open(
    reader: ByteReader,
    { limits, registry = defaultCodecs, backend = new PortableBackend(registry) }: ArtifactTerms,
  ): Promise<OpenedArtifact> {
    const index = await indexArtifact(reader, resolveLimits(limits), registry);
    const { manifest, plan, chunks, indexed } = index;
    const sha256 = sha256Of(manifest);
    const expected = indexed ? (tensor: number) => chunks.tensor(tensor) : undefined;
    const digests = sha256 && new PayloadDigests(plan, sha256, expected);
    return new OpenedArtifact(index, new PayloadCheck(manifest, backend, registry), digests);
  }
}
