import { afterEach } from "vitest";
import { EVENT_NAMES, type EventName, type Events, listenTo } from "../src/diagnostics/events.js";
import {
  type Listener,
  type Logger,
  listen,
  receiveModel,
  streamModel,
  type TensorMap,
  type TransferSummary,
} from "../src/index.js";

export const closers: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

export const small = { chunkBytes: 32768, windowBytes: 65536 };
export const SECRET = 1234.5;

export const model: TensorMap = {
  w: { dtype: "F32", shape: [40_000], data: new Float32Array(40_000).fill(SECRET) },
  b: { dtype: "F32", shape: [4], data: new Float32Array(4) },
};

export const BYTES = 160_016;
export const CHUNKS = 6;

export async function listening(): Promise<Listener> {
  const listener = await listen();
  closers.push(() => listener.close());
  return listener;
}

export const discarding = {
  name: "nowhere",
  parallel: false,
  open: async () => {},
  write: () => undefined,
  finish: async () => {},
  abort: async () => {},
};

export async function transfer(options: { logger?: Logger } = {}): Promise<TransferSummary> {
  const listener = await listening();
  const { done } = receiveModel(listener, { ...small, to: discarding });
  const summary = await streamModel(model, listener.url, { ...small, ...options });
  await done;
  return summary;
}

type Heard = { [Name in EventName]: { name: Name; message: Events[Name] } }[EventName];

/** Everything that is published meanwhile. */
export function hearing(): Heard[] {
  const heard: Heard[] = [];
  const listeners = EVENT_NAMES.map((name) => [
    name,
    (message: unknown) => heard.push({ name, message } as Heard),
  ]);
  closers.push(listenTo(Object.fromEntries(listeners)));
  return heard;
}

type Line = { level: string; details: Record<string, unknown>; message: string };

export function collecting(): [Logger, Line[]] {
  const lines: Line[] = [];
  const level = (level: string) => (details: object, message: string) =>
    void lines.push({ level, details: details as Record<string, unknown>, message });
  return [{ debug: level("debug"), info: level("info"), warn: level("warn"), error: level("error") }, lines];
}
