import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ChannelPeer } from "@tensorwire/core";
import { afterEach } from "vitest";
import {
  type Authorize,
  type Listener,
  type ListenOptions,
  listen,
  receiveModel,
  type TensorMap,
} from "../src/index.js";

export const model: TensorMap = { w: { dtype: "F32", shape: [2], data: new Float32Array([1, 2]) } };
export const TOKEN = "a-token/of+visible~characters=";
export const closers: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

export async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "tensorwire-door-"));
  closers.push(() => rm(path, { recursive: true }));
  return path;
}

export async function listening(options: ListenOptions): Promise<Listener> {
  const listener = await listen(options);
  closers.push(() => listener.close());
  return listener;
}

export const nowhere = () => ({
  name: "nowhere",
  parallel: false,
  open: async () => {},
  write: () => undefined,
  finish: async () => {},
  abort: async () => {},
});

/** Receives whatever the listener lets in, until it is stopped. */
export function receiving(listener: Listener): Promise<unknown> {
  const stop = new AbortController();
  closers.push(() => stop.abort());
  const { done } = receiveModel(listener, { to: nowhere(), signal: stop.signal });
  done.catch(() => {});
  return done;
}

/** Lets in who shows the token, and remembers who came. */
export function doorkeeper(): { authorize: Authorize; seen: [string | undefined, ChannelPeer][] } {
  const seen: [string | undefined, ChannelPeer][] = [];
  const authorize: Authorize = (credential, peer) => {
    seen.push([credential, peer]);
    return credential === TOKEN ? { name: "somebody" } : undefined;
  };
  return { authorize, seen };
}
