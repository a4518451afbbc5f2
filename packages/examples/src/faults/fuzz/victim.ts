import { readdir, readFile, rm } from "node:fs/promises";
import { PortableBackend, PREAMBLE } from "@tensorwire/core";
import {
  artifactSource,
  memoryChannelPair,
  receiveModel,
  streamModel,
  TensorwireError,
} from "@tensorwire/stream";
import type { Draws } from "../draws.js";
import { artifactFile, FileInMemory } from "./artifact-file.js";
import { type Frame, frameBytes } from "./frame.js";
import { HashingSink } from "./hashing-sink.js";
import { ScriptChannel } from "./script-channel.js";
import { type Script, WINDOW_BYTES } from "./scripts.js";

/** Who gets to hear a script. */
export const VICTIMS = ["receiver", "iterator", "file", "one-way", "artifact", "sender"] as const;
export type VictimName = (typeof VICTIMS)[number];

/** How a victim came out: of several transfers, each. */
export interface Fate {
  /** Error codes, or `done`. */
  readonly codes: readonly string[];
  /** What must not be. */
  readonly broken: readonly string[];
}

const portable = new PortableBackend();
/** Turns of the event loop in which a victim that has something to say says it. */
const TURNS = 12;
/** Of one that reads or writes files first: turns of a millisecond. */
const SLOW_TURNS = 200;

/** Lets a victim hear `frames`, and looks at what it makes of them. */
export async function suffer(
  name: VictimName,
  script: Script,
  frames: readonly Frame[],
  draws: Draws,
  at: string,
): Promise<Fate> {
  if (name === "artifact") {
    // Of what nobody has changed the footer is right, too.
    const lies = frames === script.frames ? undefined : draws;
    return readBack(script, artifactFile(frames, lies));
  }
  const channel = new ScriptChannel(name === "one-way" ? "receive" : "both");
  const backend = draws.oneIn(3) ? portable : undefined;
  const options = { windowBytes: WINDOW_BYTES, backend };
  const transfers = Array.from({ length: script.transfers }, (_, i) =>
    begin(name, script, channel, options, `${at}-${i}`),
  );
  let over = false;
  const all = Promise.all(transfers).then((ends) => {
    over = true;
    return ends;
  });
  const slow = name === "file" || (name === "sender" && typeof script.source.model === "string");
  await play(channel, frames, draws, { over: () => over, slow });
  const ends = await all;
  return { codes: ends.map(({ code }) => code), broken: ends.flatMap(({ broken }) => broken) };
}

interface End {
  readonly code: string;
  readonly broken: readonly string[];
}

type Options = { readonly windowBytes: number; readonly backend: PortableBackend | undefined };

async function begin(
  name: VictimName,
  script: Script,
  channel: ScriptChannel,
  options: Options,
  path: string,
): Promise<End> {
  switch (name) {
    case "sender": {
      const { model, options: asked } = script.source;
      const code = await codeOf(streamModel(model, channel, { ...asked, ...options }));
      return { code, broken: unclear(code) };
    }
    case "iterator":
      return iterate(script, channel, options);
    case "file":
      return receiveFile(script, channel, options, path);
    default: {
      const sink = new HashingSink(script.leftovers);
      const code = await codeOf(receiveModel(channel, { ...options, to: sink }).done);
      return { code, broken: wrongs(sink, script, code) };
    }
  }
}

function wrongs(sink: HashingSink, script: Script, code: string): string[] {
  const wrong = sink.complete && !script.contents.includes(sink.content);
  return [
    ...(wrong ? ["another model than was sent was accepted"] : []),
    ...(sink.complete !== (code === "done") ? [`complete is ${sink.complete} with ${code}`] : []),
    ...(sink.takenBack ? ["a complete model was taken back"] : []),
    ...unclear(code),
  ];
}

/** Sends the artifact that a file is said to be to somebody. */
async function readBack(script: Script, file: Uint8Array): Promise<Fate> {
  const reader = new FileInMemory(file);
  const source = artifactSource({ name: reader.name, open: async () => reader });
  const [a, b] = memoryChannelPair();
  const sink = new HashingSink();
  const received = codeOf(receiveModel(b, { to: sink, windowBytes: WINDOW_BYTES }).done);
  const code = await codeOf(streamModel(source, a, { windowBytes: WINDOW_BYTES }));
  // Of a source that cannot be opened the receiver has heard nothing.
  await a.close();
  const other = await received;
  const broken = [...wrongs(sink, script, code), ...unclear(other)];
  // A sender that fails says so, and nothing else can be wrong between the two.
  if ((code === "done") !== (other === "done")) broken.push(`${code} there, ${other} here`);
  return { codes: [code], broken };
}

async function iterate(script: Script, channel: ScriptChannel, options: Options): Promise<End> {
  const model = receiveModel(channel, options);
  let tensors = 0;
  const iterating = (async () => {
    for await (const { data } of model) tensors += data.length >= 0 ? 1 : 0;
    return model.done;
  })();
  const code = await codeOf(iterating);
  const expected = script.source.name === "nothing" ? 0 : 1;
  const broken = code === "done" && tensors < expected ? [`done after ${tensors} tensors`] : [];
  return { code, broken: [...broken, ...unclear(code)] };
}

async function receiveFile(
  script: Script,
  channel: ScriptChannel,
  options: Options,
  path: string,
): Promise<End> {
  const raw = script.source.name === "raw";
  const to = raw ? `${path}.bin` : `${path}.safetensors`;
  const code = await codeOf(receiveModel(channel, { ...options, to, overwrite: true }).done);
  const file = await readFile(to).catch(() => undefined);
  const broken: string[] = [];
  if (code === "done" && !file) broken.push("done, and no file is there");
  if (code !== "done" && file) broken.push(`a file under the final name after ${code}`);
  if (file) {
    // Of the undisturbed script once, of all that come after it the same.
    const first = files.get(script.source.name) ?? file;
    files.set(script.source.name, first);
    if (!first.equals(file)) broken.push("another file than was sent");
  }
  await rm(to, { force: true });
  return { code, broken: [...broken, ...unclear(code)] };
}

const files = new Map<string, Buffer>();

/** Whatever files of a folder are left, other than what an interruption may leave for a later attempt. */
export async function strays(folder: string): Promise<string[]> {
  const left = await readdir(folder);
  return left.filter((name) => !/\.part(\.journal)?$/.test(name));
}

async function codeOf(transfer: Promise<unknown>): Promise<string> {
  try {
    await transfer;
    return "done";
  } catch (error) {
    if (error instanceof TensorwireError)
      return error.code === "INTERNAL" ? `INTERNAL ${error.stack}` : error.code;
    return `not ours: ${(error as Error)?.stack ?? String(error)}`;
  }
}

const unclear = (code: string): string[] => (/^[A-Z_]+$|^done$/.test(code) ? [] : [code]);

interface Victim {
  over(): boolean;
  /** It waits for files. */
  readonly slow: boolean;
}

/** Delivers a script, frame by frame, each when what it answers has been said. */
async function play(
  channel: ScriptChannel,
  frames: readonly Frame[],
  draws: Draws,
  { over, slow }: Victim,
): Promise<void> {
  const until = async (there: () => boolean): Promise<void> => {
    for (let turns = slow ? SLOW_TURNS : TURNS; turns > 0 && !there() && !over(); turns--) {
      await new Promise<void>((resolve) => (slow ? setTimeout(resolve, 1) : setImmediate(resolve)));
    }
  };
  await until(() => channel.opened);
  const portions = draws.pick([0, 0, 0, 7, 1000]);
  const pending: Uint8Array[] = [PREAMBLE];
  let waits = true;
  for (const frame of frames) {
    if (channel.heard < frame.after && waits) {
      await deliver(channel, pending.splice(0), portions);
      await until(() => channel.heard >= frame.after);
      // Of a victim that has once said nothing, no more is waited for.
      waits = channel.heard >= frame.after;
    }
    if (over() || channel.closed) break;
    pending.push(frameBytes(frame));
  }
  await deliver(channel, pending, portions);
  await until(over);
  channel.end();
}

async function deliver(channel: ScriptChannel, parts: Uint8Array[], portions: number): Promise<void> {
  if (!parts.length) return;
  const bytes = Buffer.concat(parts);
  const step = portions === 0 || bytes.length > 50 * portions ? bytes.length : portions;
  for (let at = 0; at < bytes.length; at += step) await channel.deliver(bytes.subarray(at, at + step));
}
