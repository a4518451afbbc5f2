import { createReadStream, createWriteStream } from "node:fs";
import { connect } from "node:net";
import { pipeline } from "node:stream/promises";
import { accepted } from "./accepted.js";
import type { BareWay } from "./way.js";

/** As everybody would write it: a file's stream, a socket, a file's stream, with the buffers that Node gives them. */
export const way: BareWay = {
  async send(path, peer) {
    await pipeline(createReadStream(path), connect(Number(peer.address()), "127.0.0.1"));
  },
  async receive(path, peer) {
    await pipeline(await accepted(peer), createWriteStream(path));
  },
};
