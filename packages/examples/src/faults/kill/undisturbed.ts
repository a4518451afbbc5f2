import { rm } from "node:fs/promises";
import { memoryChannelPair, receiveModel, type StreamOptions, streamModel } from "@tensorwire/stream";

/** What a source becomes when nothing happens to it: its file, which somebody removes, and the bytes on the wire. */
export async function undisturbed(
  source: string,
  target: string,
  options: StreamOptions,
): Promise<{ readonly wireBytes: number }> {
  await rm(target, { force: true });
  const [here, there] = memoryChannelPair();
  const { done } = receiveModel(there, { to: target, windowBytes: options.windowBytes });
  const [{ wireBytes }] = await Promise.all([streamModel(source, here, options), done]);
  await here.close();
  return { wireBytes };
}
