import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import {
  type Channel,
  type ChunkRecord,
  COUNT_BYTES,
  DEFAULT_LIMITS,
  FrameParser,
  FrameType,
  HEADER_BYTES,
  parseDataTable,
  RECORD_BYTES,
} from "@tensorwire/core";

const F32_BYTES = 4;

/** What one connection of a sender has been asked for, and has sent. */
export interface Attempt {
  /** Chunks of WANT. */
  readonly wanted: number;
  /** Source bytes, of F32 tensors. */
  readonly sent: number;
}

/** A sender's channel that writes down what passes, so that it is known of a process that was killed. */
export function measuredChannel(channel: Channel, ledger: string): Channel {
  const file = openSync(ledger, "a");
  const note = (line: string): void => void writeSync(file, `${line}\n`);
  const parser = new FrameParser(
    {
      admit: () => {},
      control: ({ type }, body) => {
        if (type === FrameType.WANT) note(`wanted ${wantedChunks(body)}`);
      },
      lend: () => undefined,
      payload: () => {},
    },
    DEFAULT_LIMITS,
  );
  return {
    kind: channel.kind,
    direction: channel.direction,
    peer: channel.peer,
    open: (receiver) =>
      channel.open({
        bytes: (portion) => {
          parser.push(portion);
          return receiver.bytes(portion);
        },
        end: (error) => receiver.end(error),
      }),
    send(parts) {
      for (const part of parts) {
        if (part[0] === 1 && part[1] === FrameType.DATA && part.length > HEADER_BYTES + COUNT_BYTES) {
          const bytes = sourceBytes(part);
          if (bytes) note(`sent ${bytes}`);
        }
      }
      return channel.send(parts);
    },
    async close(error) {
      await channel.close(error);
      closeSync(file);
    },
  };
}

function wantedChunks(body: Uint8Array): number {
  const view = new DataView(body.buffer, body.byteOffset, body.length);
  let chunks = 0;
  for (let at = 16; at < body.length; at += 8) chunks += view.getUint32(at + 4, true);
  return chunks;
}

/** Of the head of a DATA frame; 0 of a payload that only looks like one. */
function sourceBytes(head: Uint8Array): number {
  const view = new DataView(head.buffer, head.byteOffset, head.length);
  const table = head.subarray(HEADER_BYTES);
  const records = view.getUint32(HEADER_BYTES, true);
  if (table.length !== COUNT_BYTES + records * RECORD_BYTES) return 0;
  const sum = (all: readonly ChunkRecord[]): number =>
    all.reduce((bytes, { elements }) => bytes + elements * F32_BYTES, 0);
  return sum(parseDataTable(table, view.getUint32(8, true)));
}

/** The attempts that a ledger tells of, in their order. */
export function readLedger(path: string): Attempt[] {
  const attempts: { wanted: number; sent: number }[] = [];
  for (const line of readFileSync(path, "utf8").split("\n")) {
    const [what, figure] = line.split(" ");
    if (what === "wanted") attempts.push({ wanted: Number(figure), sent: 0 });
    else if (what === "sent") attempts.at(-1)!.sent += Number(figure);
  }
  return attempts;
}
