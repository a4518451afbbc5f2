import type { Readable } from "node:stream";
import type { ChannelReceiver } from "@tensorwire/core";
import chain from "stream-chain";

/**
 * Delivers a stream to a receiver at the receiver's pace: the next portion is read when it has room for it. What a
 * channel without a way back has instead of credit.
 */
export function deliverPaced(readable: Readable, receiver: ChannelReceiver): void {
  let ended = false;
  const end = (error?: Error): void => {
    if (ended) return;
    ended = true;
    receiver.end(error);
  };
  // One portion is held at most: the default of an object stream is sixteen.
  const delivery = chain.asStream((portion: Uint8Array) => receiver.bytes(portion), {
    writableHighWaterMark: 1,
  });
  const stages = chain([readable, delivery]);
  stages.on("error", end);
  stages.on("end", () => end());
  readable.on("error", end);
  // A stream that is destroyed ends without "end".
  readable.on("close", () => {
    if (!readable.readableEnded) end(new Error("the stream closed before its end"));
  });
  stages.resume();
}
