import { type FileHandle, open } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";

/**
 * The regular way: the model is one blob, whole in memory at both ends. It lies in pieces, since Node's largest buffer
 * ends at 4 GiB; no more than one blob is held, which is as kind to this way as it gets.
 */
type Blob = readonly Buffer[];

const PIECE_BYTES = 1024 ** 3;
const LENGTH_BYTES = 8;

function allocate(bytes: number): Buffer[] {
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes; at += PIECE_BYTES) {
    pieces.push(Buffer.allocUnsafeSlow(Math.min(PIECE_BYTES, bytes - at)));
  }
  return pieces;
}

/** Reads the whole file, then sends it. Resolves when the receiver says that it is written. */
export async function sendBlob(path: string, url: string): Promise<void> {
  const blob = await readBlob(path);
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeBigUInt64LE(BigInt(blob.reduce((sum, piece) => sum + piece.length, 0)));
  const receipt = new Promise<void>((resolve, reject) => {
    socket.once("data", () => resolve());
    socket.once("error", reject);
    socket.once("close", () => reject(new Error("the receiver went away")));
  });
  receipt.catch(() => {});
  for (const piece of [length, ...blob]) {
    await new Promise<void>((resolve, reject) =>
      socket.write(piece, (error) => (error ? reject(error) : resolve())),
    );
  }
  await receipt;
  socket.end();
}

async function readBlob(path: string): Promise<Blob> {
  const file = await open(path);
  try {
    const { size } = await file.stat();
    const blob = allocate(size);
    for (const piece of blob) {
      for (let at = 0; at < piece.length; ) {
        const { bytesRead } = await file.read(piece, at);
        if (bytesRead === 0) throw new Error(`${path} became shorter`);
        at += bytesRead;
      }
    }
    return blob;
  } finally {
    await file.close();
  }
}

/** Receives one blob whole, then writes it. */
export async function receiveBlob(path: string, listening: (url: string) => void): Promise<void> {
  const server = createServer();
  try {
    const socket = await new Promise<Socket>((resolve, reject) => {
      server.once("error", reject);
      server.once("connection", resolve);
      server.listen(0, "127.0.0.1", () => {
        listening(`tcp://127.0.0.1:${(server.address() as { port: number }).port}`);
      });
    });
    const blob = await take(socket);
    const file = await open(path, "w");
    try {
      for (const piece of blob) await writeAll(file, piece);
    } finally {
      await file.close();
    }
    socket.end("written");
  } finally {
    server.close();
  }
}

/** Read as it comes: a socket that is paused for each portion is slow, and this way is to be measured at its best. */
function take(socket: Socket): Promise<Blob> {
  return new Promise((resolve, reject) => {
    let head = Buffer.alloc(0);
    let blob: Blob | undefined;
    let piece = 0;
    let at = 0;
    socket.on("error", reject);
    socket.on("close", () => reject(new Error("the sender went away")));
    socket.on("data", (portion: Buffer) => {
      let bytes = portion;
      if (!blob) {
        head = Buffer.concat([head, bytes]);
        if (head.length < LENGTH_BYTES) return;
        blob = allocate(Number(head.readBigUInt64LE()));
        bytes = head.subarray(LENGTH_BYTES);
      }
      while (bytes.length) {
        const into = blob[piece]!;
        const copied = bytes.copy(into, at);
        bytes = bytes.subarray(copied);
        at += copied;
        if (at < into.length) continue;
        piece++;
        at = 0;
      }
      if (piece === blob.length) resolve(blob);
    });
  });
}

async function writeAll(file: FileHandle, piece: Buffer): Promise<void> {
  for (let at = 0; at < piece.length; ) at += (await file.write(piece, at)).bytesWritten;
}
