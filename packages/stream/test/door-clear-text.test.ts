import { readdir } from "node:fs/promises";
import { createServer } from "node:net";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { FrameType } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import WebSocket from "ws";
import { dialTcp, memoryChannelPair, receiveModel, streamModel } from "../src/index.js";
import { closers, folder, listening, model, nowhere, TOKEN } from "./door-fixture.js";
import { ScriptedPeer } from "./scripted-peer.js";

describe("a token is never shown in clear text beyond loopback", () => {
  const far = [
    "ws://192.0.2.1:9",
    "http://192.0.2.1:9",
    "tcp://192.0.2.1:9",
    "ws://model.invalid",
    "tcp://localhost.invalid:9",
  ];
  test.each(far)("not over %s", async (url) => {
    const dial = { token: TOKEN };
    await expect(streamModel(model, url, { dial })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    const { done } = receiveModel(url, { dial, to: nowhere() });
    await expect(done).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  test("not over streams of which nobody knows where they lead, nor to a socket over the network", async () => {
    const streams = { readable: new PassThrough(), writable: new PassThrough() };
    const dial = { token: TOKEN };
    await expect(streamModel(model, streams, { dial })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    const address = Object.values(networkInterfaces())
      .flat()
      .find((each) => each && !each.internal && each.family === "IPv4")?.address;
    if (!address) return console.log("SKIPPED: needs a network interface beside loopback");
    const server = createServer((socket) => void socket.on("error", () => {})).listen(0, address);
    closers.push(() => server.close());
    await new Promise((resolve) => server.once("listening", resolve));
    const { port } = server.address() as { port: number };
    const channel = await dialTcp(`tcp://${address}:${port}`);
    closers.push(() => channel.close(new Error("over")));
    expect(channel.peer).toMatchObject({ private: false });
    await expect(streamModel(model, channel, { dial })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  test("not into an artifact, nor by a listener, nor by an open WebSocket", async () => {
    const at = await folder();
    const path = join(at, "model.twire");
    const dial = { token: TOKEN };
    await expect(streamModel(model, path, { dial })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    expect(await readdir(at)).toEqual([]);
    const listener = await listening({});
    await expect(streamModel(model, listener, { dial })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    const socket = new WebSocket(listener.url);
    socket.on("error", () => {});
    closers.push(() => socket.terminate());
    await expect(streamModel(model, socket, { dial })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  test("but within this process, where it is", async () => {
    const [a, b] = memoryChannelPair();
    const peer = new ScriptedPeer(b);
    const stop = new AbortController();
    const sent = streamModel(model, a, { dial: { token: TOKEN }, signal: stop.signal });
    const hello = JSON.parse(Buffer.from((await peer.hears(FrameType.HELLO))!).toString());
    expect(hello.credential).toBe(TOKEN);
    stop.abort();
    await expect(sent).rejects.toMatchObject({ code: "ABORTED" });
  });

  test("and one that is none is refused, without being repeated", async () => {
    for (const token of ["", "a b", "a\nb", "é", "x".repeat(8193)]) {
      for (const url of ["ws://127.0.0.1:9", "tcp://127.0.0.1:9", "http://127.0.0.1:9"]) {
        const error = await streamModel(model, url, { dial: { token } }).catch((error) => error);
        expect(error).toMatchObject({ code: "INVALID_ARGUMENT" });
      }
    }
  });
});
