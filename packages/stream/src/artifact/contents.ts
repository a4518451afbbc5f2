import {
  ChunkIndex,
  type CodecRegistry,
  checkLimit,
  FOOTER_BYTES,
  type Footer,
  FrameType,
  HEADER_BYTES,
  indexBytes,
  type Limits,
  PREAMBLE,
  parseFooter,
  parseTotals,
  TensorwireError,
  type Totals,
  totalsBytes,
} from "@tensorwire/core";
import type { ByteReader } from "../source/byte-reader.js";
import { LoadedPart } from "./byte-view.js";
import { ArtifactChecks, tensorsMake } from "./checks.js";
import { ArtifactFrames, type ArtifactHead, artifactFault, withinArtifact } from "./frames.js";
import { scanArtifact } from "./scan.js";

/** What an artifact holds, and where: all of it but the payloads. */
export interface ArtifactIndex extends ArtifactHead {
  readonly totals: Totals;
  readonly chunks: ChunkIndex;
  /** The file has an index of its own; else its frames were gone through. */
  readonly indexed: boolean;
}

const HEAD = "the head, as long as the footer says";
const ENDING = "END and INDEX, where the footer says that they lie";

/**
 * Finds out what an artifact holds: from its index or, where it has none, from all its frames. Checksums, manifest, chunks
 * and digest are verified, and no payload is read.
 * @throws TensorwireError `SOURCE_INVALID` that says what is wrong and where.
 */
export async function indexArtifact(
  reader: ByteReader,
  limits: Limits,
  registry: CodecRegistry,
): Promise<ArtifactIndex> {
  const footer = await readFooter(reader);
  if (!footer) return scanArtifact(reader, limits, registry);
  const head = await readHead(reader, footer, limits, registry);
  return { ...head, ...(await readIndex(reader, footer, head, limits, registry)), indexed: true };
}

async function readFooter(reader: ByteReader): Promise<Footer | undefined> {
  const position = reader.size - FOOTER_BYTES;
  if (position < PREAMBLE.length) return undefined;
  const bytes = new Uint8Array(FOOTER_BYTES);
  await reader.readInto(position, bytes);
  return withinArtifact(reader.name, position, () => parseFooter(bytes, reader.size));
}

async function readHead(
  reader: ByteReader,
  { headBytes }: Footer,
  limits: Limits,
  registry: CodecRegistry,
): Promise<ArtifactHead> {
  const manifestBytes = headBytes - PREAMBLE.length - 2 * HEADER_BYTES - limits.maxControlBytes;
  withinArtifact(reader.name, 0, () =>
    checkLimit(limits, "maxManifestBytes", manifestBytes, "the body of a MANIFEST frame"),
  );
  const part = await LoadedPart.load(reader, 0, headBytes);
  const frames = new ArtifactFrames(part, limits, registry, 0, HEAD);
  const head = await frames.head();
  if (frames.position === headBytes) return head;
  throw frames.fault(frames.position, `the footer says that the first chunk comes at byte ${headBytes}`);
}

async function readIndex(
  reader: ByteReader,
  { headBytes, endPosition, fileBytes }: Footer,
  head: ArtifactHead,
  limits: Limits,
  registry: CodecRegistry,
): Promise<Pick<ArtifactIndex, "totals" | "chunks">> {
  const { manifest, plan, transfer } = head;
  const { integrity = "xxh64" } = manifest;
  const to = fileBytes - FOOTER_BYTES;
  const due = 2 * HEADER_BYTES + totalsBytes(integrity) + indexBytes(plan, integrity);
  // Before any memory is taken: the file must have as much for each chunk that its manifest announces.
  if (to - endPosition !== due) {
    const message = `END and the index of ${plan.chunks} chunks take ${due} bytes, where the footer leaves ${to - endPosition}`;
    throw artifactFault(reader.name, endPosition, message);
  }
  const part = await LoadedPart.load(reader, endPosition, to);
  const frames = new ArtifactFrames(part, limits, registry, endPosition, ENDING).of(transfer);
  const end = await frames.next(FrameType.END);
  const totals = frames.within(endPosition, () => parseTotals("END", end.covered, integrity));
  const index = await frames.next(FrameType.INDEX);
  return frames.within(index.position, () => {
    const payloads = { from: headBytes, to: endPosition };
    const chunks = ChunkIndex.parse(index.covered, plan, integrity, payloads);
    check(chunks, totals, head, registry);
    return { totals, chunks };
  });
}

/** That the index, END and the manifest are of the same chunks. */
function check(chunks: ChunkIndex, totals: Totals, head: ArtifactHead, registry: CodecRegistry): void {
  const checks = new ArtifactChecks(head, registry);
  for (const { ordinal, tensor, first, elements } of head.plan.walk()) {
    checks.take({ ...chunks.entry(ordinal), tensor, firstElement: first, elements });
  }
  checks.end(totals);
  if (tensorsMake(totals.sha256, head, (i) => chunks.tensor(i))) return;
  throw new TensorwireError("PROTOCOL", "the SHA-256 of END is not that of the manifest and INDEX");
}
