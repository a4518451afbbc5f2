import { encodeFrame, encodeJson, FrameType, PREAMBLE, TensorwireError } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import type { ChannelServer } from "../src/channel/server.js";
import { dialTcp, serveTcp } from "../src/channel/tcp.js";
import { Gate, type GateOptions, MAX_KNOCKING, type Visitor } from "../src/door/gate.js";
import { authorize, closed, closers, socketTo, TOKEN, until } from "./hostile-visitors-fixture.js";
import { ScriptedPeer } from "./scripted-peer.js";

/** A gate of which nothing is behind, on a port. */
async function gated(
  options: Partial<GateOptions> = {},
): Promise<{ gate: Gate; server: ChannelServer; visitors: Visitor[]; refused: TensorwireError[] }> {
  const visitors: Visitor[] = [];
  const refused: TensorwireError[] = [];
  const gate = new Gate({
    authorize,
    full: () => false,
    enter: (visitor) => visitors.push(visitor),
    refused: (error) => refused.push(error),
    helloTimeoutMs: 0,
    ...options,
  });
  const server = await serveTcp({ host: "127.0.0.1", port: 0 }, gate);
  closers.push(() => server.close());
  return { gate, server, visitors, refused };
}

const HELLO = {
  versions: [1],
  software: "a stranger",
  role: "receive" as const,
  codecs: ["none"],
  limits: { maxChunkBytes: 2 ** 30, maxManifestBytes: 2 ** 30 },
};

const helloBytes = (more: object = {}): Uint8Array =>
  Buffer.concat([PREAMBLE, encodeFrame(FrameType.HELLO, 0, 0, encodeJson({ ...HELLO, ...more }))]);

describe("a peer before the gate", () => {
  test("that says no HELLO, or never the end of it, loses its place when its time is over", async () => {
    const { server, refused, visitors } = await gated({ helloTimeoutMs: 300 });
    const silent = socketTo(server.url);
    const slow = socketTo(server.url);
    slow.write(helloBytes().subarray(0, 50));
    // A byte now and then is no HELLO.
    const dribble = setInterval(() => slow.write(helloBytes().subarray(50, 51)), 50);
    await Promise.all([closed(silent), closed(slow)]);
    clearInterval(dribble);
    expect(refused.map(({ code }) => code)).toEqual([
      "IDLE_TIMEOUT",
      expect.stringMatching(/IDLE_TIMEOUT|FRAME_CORRUPT|PROTOCOL/),
    ]);
    expect(visitors).toEqual([]);
  });

  test("whose HELLO comes byte by byte is let in", async () => {
    const { server, visitors } = await gated();
    const socket = socketTo(server.url).setNoDelay();
    for (const byte of helloBytes({ credential: TOKEN })) {
      await new Promise((resolve) => socket.write(Uint8Array.of(byte), resolve));
    }
    await until(() => visitors.length === 1);
    expect(visitors[0]).toMatchObject({ hello: HELLO, principal: { name: "somebody" } });
    expect(JSON.stringify(visitors)).not.toContain(TOKEN);
  });

  test("that sends other things than HELLO is told so, and nothing of it is acted on", async () => {
    const cases: [Uint8Array, RegExp][] = [
      [Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), /PROTOCOL/],
      [Buffer.concat([PREAMBLE, encodeFrame(FrameType.MANIFEST, 1, 0, Buffer.from("{}"))]), /PROTOCOL/],
      [Buffer.concat([PREAMBLE, encodeFrame(FrameType.HELLO, 0, 0, Buffer.from("{}"))]), /PROTOCOL/],
      [Buffer.concat([PREAMBLE, encodeFrame(FrameType.HELLO, 0, 0, Buffer.from("{"))]), /PROTOCOL/],
      [helloBytes({ credential: "x".repeat(8193) }), /PROTOCOL/],
      [helloBytes({ credential: ["x"] }), /PROTOCOL/],
      [helloBytes().map((byte, i) => (i === 60 ? byte ^ 1 : byte)), /FRAME_CORRUPT/],
    ];
    let asked = 0;
    const { server, visitors, refused } = await gated({
      authorize: () => {
        asked++;
        return { name: "anybody" };
      },
    });
    for (const [bytes, code] of cases) {
      const socket = socketTo(server.url);
      const answer: Buffer[] = [];
      socket.on("data", (data: Buffer) => answer.push(data));
      socket.write(bytes);
      await closed(socket);
      expect(refused.pop()!.code).toMatch(code);
      expect(Buffer.concat(answer).toString("latin1")).toMatch(code);
    }
    expect([asked, visitors]).toEqual([0, []]);
  });

  test("holds no more than 32 KiB while it waits, whatever it sends behind its HELLO", async () => {
    const { server, visitors, refused } = await gated({ authorize: () => new Promise(() => {}) });
    const socket = socketTo(server.url);
    socket.write(helloBytes({ credential: TOKEN }));
    for (let i = 0; i < 64; i++) socket.write(Buffer.alloc(1024));
    await closed(socket);
    expect(refused.map(({ code, message }) => `${code} ${message}`)).toEqual([
      expect.stringMatching(/PROTOCOL.*too many bytes/),
    ]);
    expect(visitors).toEqual([]);
  });

  test("leaves its place when it goes, though authorize never answers", async () => {
    const { server, refused } = await gated({ authorize: () => new Promise(() => {}) });
    const socket = socketTo(server.url);
    socket.write(helloBytes({ credential: TOKEN }), () => socket.destroy());
    await until(() => refused.length === 1);
    expect(refused[0]!.code).toBe("CHANNEL_CLOSED");
  });

  test("that waits for an authorize which never answers keeps nobody else out", async () => {
    const { server, visitors, refused } = await gated({
      authorize: (credential) => (credential === TOKEN ? { name: "somebody" } : new Promise(() => {})),
    });
    for (let i = 0; i < MAX_KNOCKING + 10; i++) socketTo(server.url).write(helloBytes({ credential: "?" }));
    await until(() => refused.length >= 10);
    const peer = new ScriptedPeer(await dialTcp(server.url));
    await peer.hello("receive", { credential: TOKEN });
    await until(() => visitors.length === 1);
    // The oldest had to go, and were told to come again.
    expect(new Set(refused.map(({ code }) => code))).toEqual(new Set(["SERVER_BUSY"]));
    expect(refused.length).toBeLessThanOrEqual(12);
  });

  test("is sent away when the gate closes", async () => {
    const { gate, server, refused } = await gated();
    const sockets = [socketTo(server.url), socketTo(server.url)];
    sockets[1]!.write(helloBytes().subarray(0, 20));
    await until(() => gate.knocking === 2);
    gate.close(new TensorwireError("SERVER_BUSY", "closing"));
    await Promise.all(sockets.map(closed));
    expect(refused.map(({ code }) => code)).toEqual(["SERVER_BUSY", "SERVER_BUSY"]);
  });
});
