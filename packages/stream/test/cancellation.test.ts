import { createServer } from "node:net";
import { FrameType } from "@tensorwire/core";
import { afterEach, describe, expect, test } from "vitest";
import {
  dialTcp,
  duplexChannel,
  fromTensors,
  type Listener,
  listen,
  memoryChannelPair,
  receiveModel,
  type Sink,
  streamModel,
  type TensorMap,
} from "../src/index.js";
import { type Deferred, deferred } from "../src/session/deferred.js";
import { ScriptedPeer } from "./scripted-peer.js";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const small = { chunkBytes: 32768, windowBytes: 65536 };
const model: TensorMap = { w: { dtype: "F32", shape: [40_000], data: new Float32Array(40_000) } };
const SCHEMES = ["ws", "tcp", "http"];

async function listening(scheme: string): Promise<Listener> {
  const listener = await listen({ url: `${scheme}://127.0.0.1:0` });
  closers.push(() => listener.close());
  return listener;
}

const failure = (ending: Promise<unknown>): Promise<unknown> =>
  ending.then(
    () => "it succeeded",
    (error: unknown) => error,
  );

const cancelledHere = { code: "ABORTED", message: expect.stringContaining("had enough") };
const cancelledThere = {
  code: "ABORTED",
  message: expect.stringMatching(/the peer cancelled the transfer: .*had enough/),
};

/** A sink that stops where a test wants it to, says that it is there, and goes on when it is let. */
function sinkThatStops(at: "open" | "write" | "finish", there: Deferred<void>, goOn: Promise<void>): Sink {
  const stop = (where: string) => (): Promise<void> | undefined => {
    if (where !== at) return undefined;
    there.resolve();
    return goOn;
  };
  return {
    name: "stopping",
    parallel: false,
    open: async () => stop("open")(),
    write: stop("write"),
    finish: async () => stop("finish")(),
    abort: async () => {},
  };
}

const discarding = sinkThatStops("open", deferred<void>(), Promise.resolve());

describe.each(SCHEMES)("a cancelled signal reaches the peer as a reason, over %s", (scheme) => {
  // The phases, each by where the receiver stands still: HELLO is over, and a manifest is announced (before WANT); WANT is
  // out, and chunks come.
  const phases = [
    ["announced", "open"],
    ["streaming", "write"],
  ] as const;
  for (const [phase, at] of phases) {
    test.each(["sender", "receiver"])(`${phase}: by the %s`, async (side) => {
      const listener = await listening(scheme);
      const [there, goOn] = [deferred<void>(), deferred<void>()];
      const abort = new AbortController();
      const signals = [
        side === "sender" ? abort.signal : undefined,
        side === "sender" ? undefined : abort.signal,
      ];
      const to = sinkThatStops(at, there, goOn.promise);
      const received = failure(receiveModel(listener, { ...small, to, signal: signals[1] }).done);
      const sent = failure(streamModel(model, listener.url, { ...small, signal: signals[0] }));
      await there.promise;
      abort.abort(new Error("had enough"));
      const [own, other] = side === "sender" ? [sent, received] : [received, sent];
      // A sink keeps what it was lent until it is done with it: its own side waits for that, the other one does not.
      if (side === "receiver") expect(await other).toMatchObject(cancelledThere);
      goOn.resolve();
      expect(await own).toMatchObject(cancelledHere);
      expect(await other).toMatchObject(cancelledThere);
    });
  }

  test("END: by the sender, while it looks at its source a last time", async () => {
    const listener = await listening(scheme);
    const there = deferred<void>();
    const abort = new AbortController();
    const received = failure(receiveModel(listener, { ...small, to: discarding }).done);
    const infos = [{ name: "w", dtype: "F32" as const, shape: [4] }];
    const source = fromTensors(
      infos,
      (async function* () {
        yield { ...infos[0]!, data: new Float32Array(4) };
        there.resolve();
        await new Promise(() => {});
      })(),
    );
    const sent = failure(streamModel(source, listener.url, { ...small, signal: abort.signal }));
    await there.promise;
    abort.abort(new Error("had enough"));
    expect(await sent).toMatchObject(cancelledHere);
    expect(await received).toMatchObject(cancelledThere);
  });

  test("receipt: the model is whole, and nothing undoes it; the sender that does not wait is cancelled", async () => {
    for (const side of ["sender", "receiver"]) {
      const listener = await listening(scheme);
      const [finishing, finished] = [deferred<void>(), deferred<void>()];
      const abort = new AbortController();
      const to = sinkThatStops("finish", finishing, finished.promise);
      const own = (which: string) => (side === which ? abort.signal : undefined);
      const { done } = receiveModel(listener, { ...small, to, signal: own("receiver") });
      const sent = failure(streamModel(model, listener.url, { ...small, signal: own("sender") }));
      await finishing.promise;
      abort.abort(new Error("had enough"));
      if (side === "sender") expect(await sent).toMatchObject(cancelledHere);
      finished.resolve();
      await expect(done).resolves.toMatchObject({ tensors: 1 });
      await sent;
    }
  });
});

describe("a cancelled signal reaches the peer as a reason: HELLO, before there is a transfer", () => {
  const reason = async (peer: ScriptedPeer): Promise<unknown> =>
    JSON.parse(Buffer.from((await peer.hears(FrameType.CANCEL))!).toString());
  const told = { code: "ABORTED", message: expect.stringContaining("had enough") };

  test.each(["sender", "receiver"])("by a %s that dialled, and hears nothing", async (side) => {
    const accepted = deferred<ScriptedPeer>();
    const server = createServer((socket) => accepted.resolve(new ScriptedPeer(duplexChannel(socket))));
    server.listen(0, "127.0.0.1");
    closers.push(() => server.close());
    await new Promise((resolve) => server.once("listening", resolve));
    const url = `tcp://127.0.0.1:${(server.address() as { port: number }).port}`;
    const abort = new AbortController();
    const { signal } = abort;
    const ended = failure(
      side === "sender"
        ? streamModel(model, url, { signal })
        : receiveModel(url, { signal, to: "never.safetensors" }).done,
    );
    const peer = await accepted.promise;
    await peer.hears(FrameType.HELLO);
    abort.abort(new Error("had enough"));
    expect(await reason(peer)).toMatchObject(told);
    expect(await ended).toMatchObject(cancelledHere);
  });

  test.each(["sender", "receiver"])("by a %s that listens, of everyone who came", async (side) => {
    const listener = await listening("tcp");
    const abort = new AbortController();
    const { signal } = abort;
    const ended = failure(
      side === "sender"
        ? streamModel(model, listener, { signal })
        : receiveModel(listener, { signal, to: "never.safetensors" }).done,
    );
    const peers = [];
    for (let i = 0; i < 2; i++) {
      const peer = new ScriptedPeer(await dialTcp(listener.url));
      if (side === "receiver") await peer.hello("send");
      await peer.hears(FrameType.HELLO);
      peers.push(peer);
    }
    abort.abort(new Error("had enough"));
    for (const peer of peers) expect(await reason(peer)).toMatchObject(told);
    expect(await ended).toMatchObject(cancelledHere);
  });

  test("and is understood", async () => {
    const [a, b] = memoryChannelPair();
    const peer = new ScriptedPeer(b);
    const received = failure(receiveModel(a, { to: "never.safetensors" }).done);
    await peer.hello("send");
    const words = JSON.stringify({ code: "ABORTED", message: "the transfer was aborted: had enough" });
    await peer.say(FrameType.CANCEL, words, { transfer: 0 });
    expect(await received).toMatchObject(cancelledThere);
  });
});

test("dialling: nobody is there to be told, and nothing is waited for", async () => {
  const server = createServer(() => {}).listen(0, "127.0.0.1");
  closers.push(() => server.close());
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as { port: number };
  for (const ends of [
    (signal: AbortSignal) => streamModel(model, `ws://127.0.0.1:${port}`, { signal }),
    (signal: AbortSignal) => receiveModel(`ws://127.0.0.1:${port}`, { signal, to: "never.safetensors" }).done,
  ]) {
    const abort = new AbortController();
    const ended = failure(ends(abort.signal));
    setTimeout(() => abort.abort(new Error("had enough")), 50);
    expect(await ended).toMatchObject(cancelledHere);
  }
});
