import {
  ChunkIndex,
  type CodecRegistry,
  FOOTER_BYTES,
  FrameType,
  HEADER_BYTES,
  type Limits,
  parseTotals,
  RECORD_BYTES,
  type TensorwireError,
} from "@tensorwire/core";
import type { ByteReader } from "../source/byte-reader.js";
import { ByteWindow } from "./byte-view.js";
import { ArtifactChecks } from "./checks.js";
import type { ArtifactIndex } from "./contents.js";
import { ArtifactFrames } from "./frames.js";

/**
 * Goes through every frame of an artifact that has no index: what a pipe or a plain GET carried, kept as a file.
 * @throws TensorwireError `SOURCE_INVALID`.
 */
export async function scanArtifact(
  reader: ByteReader,
  limits: Limits,
  registry: CodecRegistry,
): Promise<ArtifactIndex> {
  const frames = new ArtifactFrames(new ByteWindow(reader), limits, registry);
  const head = await frames.head();
  const { manifest, plan } = head;
  // Each chunk takes a record: what the file has no room for gets no memory here.
  const room = Math.floor((reader.size - frames.position) / RECORD_BYTES);
  if (plan.chunks > room) {
    throw frames.truncated(frames.position, `it has room for ${room} of its ${plan.chunks} chunks`);
  }
  const chunks = new ChunkIndex(plan, manifest.integrity);
  const checks = new ArtifactChecks(head, registry);
  let frame = await frames.next(FrameType.DATA, FrameType.END);
  for (; frame.header.type === FrameType.DATA; frame = await frames.next(FrameType.DATA, FrameType.END)) {
    const { position } = frame;
    frames.within(position, () => {
      for (const record of frames.records(frame)) {
        checks.take(record);
        chunks.add(record);
      }
    });
  }
  const totals = frames.within(frame.position, () => {
    const found = parseTotals("END", frame.covered, manifest.integrity);
    checks.end(found);
    return found;
  });
  if (frames.position === reader.size) return { ...head, totals, chunks, indexed: false };
  throw await afterEnd(frames);
}

/** Why a file goes on behind END that has no good footer. */
async function afterEnd(frames: ArtifactFrames): Promise<TensorwireError> {
  const { position, left } = frames;
  if (left < HEADER_BYTES) return frames.truncated(position, "it ends within the frame behind END");
  const next = await frames.peek();
  if (next?.type !== FrameType.INDEX)
    return frames.fault(position, `${left} bytes follow the END frame, and are no index: copy it again`);
  const missing = HEADER_BYTES + next.bodyBytes + FOOTER_BYTES - left;
  if (missing > 0)
    return frames.truncated(position, `it ends ${missing} bytes before its index and footer do`);
  return frames.fault(
    position,
    "an index follows that no footer is of: bytes were added, or changed: copy it again",
  );
}
