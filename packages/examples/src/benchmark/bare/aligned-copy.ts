import { once } from "node:events";
import { open } from "node:fs/promises";
import { connect } from "node:net";
import { accepted } from "./accepted.js";
import type { BareWay } from "./way.js";

const PIECE_BYTES = 2 ** 20;
/** Large buffers begin 16 bytes past a page, where some processors copy several times slower: 64 bytes past is not such a place. */
const SHIFT = 48;

const buffer = (): Uint8Array => new Uint8Array(new ArrayBuffer(PIECE_BYTES + SHIFT), SHIFT);

/** By hand, with large buffers that are made once and begin elsewhere: here the receiver dials, since only dialled sockets take buffers. */
export const way: BareWay = {
  async send(path, peer) {
    const socket = await accepted(peer);
    const file = await open(path);
    const piece = buffer();
    for (;;) {
      const { bytesRead } = await file.read(piece);
      if (bytesRead === 0) break;
      await new Promise<void>((resolve, reject) => {
        socket.write(piece.subarray(0, bytesRead), (error) => (error ? reject(error) : resolve()));
      });
    }
    await file.close();
    socket.end();
    await once(socket, "close");
  },
  async receive(path, peer) {
    const file = await open(path, "w");
    let failed: unknown;
    const socket = connect({
      port: Number(peer.address()),
      host: "127.0.0.1",
      onread: {
        buffer: buffer(),
        callback(bytes, piece) {
          written(piece.subarray(0, bytes)).then(
            () => socket.resume(),
            (error) => {
              failed = error;
              socket.destroy();
            },
          );
          // Nothing is read into the buffer while it is written from.
          return false;
        },
      },
    });
    const written = async (bytes: Uint8Array): Promise<void> => {
      for (let at = 0; at < bytes.length; ) at += (await file.write(bytes, at)).bytesWritten;
    };
    await once(socket, "close");
    await file.close();
    if (failed) throw failed;
  },
};
