import { connect, type Socket } from "node:net";
import { afterEach } from "vitest";
import type { Authorize } from "../src/index.js";

export const TOKEN = "let-me-in";

export const authorize: Authorize = (credential) =>
  credential === TOKEN ? { name: "somebody", publish: true, fetch: true } : undefined;

export const closers: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

export function socketTo(url: string): Socket {
  const { port, hostname } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.on("error", () => {});
  closers.push(() => socket.destroy());
  return socket;
}

export const closed = (socket: Socket): Promise<unknown> =>
  new Promise((resolve) => (socket.resume().destroyed ? resolve(0) : socket.once("close", resolve)));

/** Resolves when the condition holds. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}
