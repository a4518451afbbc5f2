import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import {
  type Destination,
  fromTensors,
  listen,
  memoryChannelPair,
  type ModelSink,
  type Origin,
  type ReceivedModel,
  type ReceiveOptions,
  receiveModel,
  type SourceLike,
  type StreamOptions,
  streamModel,
  TensorwireError,
  type TransferOptions,
} from "@tensorwire/stream";
import { arrangements, dialOptions, listenOptions, socketPath } from "../arrangement.js";
import type { Certificate } from "../certificate.js";
import type { Draws } from "../draws.js";
import { CODECS } from "../models.js";

/** How a transfer is to go. */
const FATES = [
  "whole",
  "whole",
  "whole",
  "whole",
  "iterated",
  "left early",
  "aborted by the sender",
  "aborted by the receiver",
  "failing source",
  "failing sink",
  "taken target",
] as const;
type Fate = (typeof FATES)[number];

/** What each is to come to, at the end that it happens to; several where it may be over already. */
const CODES: Readonly<Record<Fate, readonly string[]>> = {
  whole: ["done"],
  iterated: ["done"],
  "left early": ["SINK_CLOSED"],
  "aborted by the sender": ["ABORTED", "done"],
  "aborted by the receiver": ["ABORTED", "done"],
  "failing source": ["SOURCE_READ"],
  "failing sink": ["SINK_CLOSED"],
  "taken target": ["TARGET_EXISTS"],
};

export interface Soaked {
  readonly fate: Fate;
  /** `done`, or the error's code, at the end that it happened to. */
  readonly code: string;
  readonly asMeant: boolean;
}

export interface SoakPlace {
  readonly scratch: string;
  readonly source: string;
  readonly certificate: Certificate | undefined;
}

interface Ways {
  /** Where both ends go, in that order. */
  readonly to: Destination;
  readonly from: Origin;
  readonly sending?: TransferOptions;
  readonly receiving?: TransferOptions;
  /** An artifact is received when it is there. */
  readonly inTurn?: boolean;
  close?(): Promise<unknown>;
}

const WINDOW = { windowBytes: 128 * 1024 };

/** One transfer of this process to itself, over some channel, that comes out as chance will have it. */
export async function transferOnce(draws: Draws, number: number, place: SoakPlace): Promise<Soaked> {
  const fate = draws.pick(FATES);
  const choice = draws.pick(CODECS);
  const ways = await openWays(draws, number, place);
  const target = join(place.scratch, `${number}.safetensors`);
  const aborting = new AbortController();
  const abort = { signal: aborting.signal, onProgress: () => aborting.abort() };
  const iterated = fate === "iterated" || fate === "left early";
  const send = (): Promise<unknown> => {
    const options: StreamOptions = { ...choice, ...WINDOW, chunkBytes: 32 * 1024, ...ways.sending };
    const source: SourceLike = fate === "failing source" ? failingSource() : place.source;
    return streamModel(source, ways.to, { ...options, ...(fate === "aborted by the sender" && abort) });
  };
  const receive = (): Promise<unknown> => {
    const options: ReceiveOptions = { ...WINDOW, ...ways.receiving };
    const to = iterated ? undefined : fate === "failing sink" ? failingSink() : target;
    const model = receiveModel(ways.from, {
      ...options,
      to,
      ...(fate === "aborted by the receiver" && abort),
    });
    return iterated ? consume(model, fate) : model.done;
  };
  try {
    if (fate === "taken target") await writeFile(target, "taken");
    const sender = codeOf(send());
    if (ways.inTurn && (await sender) !== "done") return soaked(fate, await sender);
    const receiver = codeOf(receive());
    const codes = [await sender, await receiver];
    const sendersOwn = fate === "failing source" || fate === "aborted by the sender";
    return soaked(fate, codes[sendersOwn ? 0 : 1]!);
  } finally {
    await ways.close?.();
    await forget(target);
  }
}

/** A file, and what an interruption has left of it. */
async function forget(path: string): Promise<void> {
  for (const suffix of ["", ".part", ".part.journal"]) await rm(`${path}${suffix}`, { force: true });
}

const soaked = (fate: Fate, code: string): Soaked => ({ fate, code, asMeant: CODES[fate].includes(code) });

async function openWays(draws: Draws, number: number, { scratch, certificate }: SoakPlace): Promise<Ways> {
  const kind = draws.pick(["address", "address", "address", "memory", "streams", "artifact"] as const);
  if (kind === "memory") {
    const [to, from] = memoryChannelPair();
    return { to, from, close: () => to.close() };
  }
  if (kind === "streams") {
    const [there, back] = [new PassThrough(), new PassThrough()];
    const close = async (): Promise<void> => {
      for (const stream of [there, back]) stream.destroy();
    };
    return { to: { readable: back, writable: there }, from: { readable: there, writable: back }, close };
  }
  if (kind === "artifact") {
    const path = join(scratch, `${number}.twire`);
    return { to: path, from: path, inTurn: true, close: () => forget(path) };
  }
  const { channel, listens } = draws.pick(arrangements(certificate));
  const listener = await listen(listenOptions(channel, socketPath(scratch, String(number)), certificate));
  const dial = dialOptions(channel, certificate);
  const close = (): Promise<void> => listener.close();
  return listens === "receiver"
    ? { to: listener.url, sending: dial, from: listener, close }
    : { to: listener, from: listener.url, receiving: dial, close };
}

async function consume(model: ReceivedModel, fate: Fate): Promise<unknown> {
  for await (const { data } of model) if (fate === "left early" && data.byteLength) break;
  return model.done;
}

/** A caller's tensors that end in an error of its own. */
function failingSource(): SourceLike {
  const infos = ["first", "second"].map((name) => ({ name, dtype: "F32" as const, shape: [20_000] }));
  function* tensors(): Generator<{ name: string; dtype: "F32"; shape: number[]; data: Float32Array }> {
    yield { ...infos[0]!, data: new Float32Array(20_000).fill(0.25) };
    throw new Error("the caller's own");
  }
  return fromTensors(infos, tensors());
}

/** A caller's sink that takes a chunk, and no more. */
function failingSink(): ModelSink {
  let taken = 0;
  return {
    name: "a sink that fails",
    parallel: false,
    open: async () => {},
    write: () => {
      if (taken++ > 0) throw new TensorwireError("SINK_CLOSED", "no more");
      return undefined;
    },
    finish: async () => {},
    abort: async () => {},
  };
}

async function codeOf(transfer: Promise<unknown>): Promise<string> {
  try {
    await transfer;
    return "done";
  } catch (error) {
    return error instanceof TensorwireError ? error.code : `not ours: ${(error as Error)?.stack ?? error}`;
  }
}
