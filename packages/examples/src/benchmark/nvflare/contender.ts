import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Contender } from "../contender.js";
import type { Command } from "../measured-process.js";
import { END_PROGRAM } from "./environment.js";
import type { NvflareWay } from "./published.js";

export interface NvflareTransfer {
  readonly name: string;
  readonly python: string;
  readonly way: NvflareWay;
  /** A safetensors file of F32: what is sent, or, of the ways that send a dict, what is in it. */
  readonly model: string;
  readonly scratch: string;
  /** Compares what came with what was sent, in the receiver before it ends. */
  readonly check: boolean;
  readonly rounds?: number;
}

/** A transfer by NVFlare: two processes of Python with a cell each, over TCP. */
export function nvflare({ name, python, way, model, scratch, check, rounds }: NvflareTransfer): Contender {
  const folder = join(scratch, "nvflare");
  const command = (role: "sender" | "receiver"): Command => ({
    argv: [python, END_PROGRAM, JSON.stringify({ role, way, model, folder, check })],
  });
  return {
    name,
    ...(rounds !== undefined && { rounds }),
    commands: () => ({ sender: command("sender"), receiver: command("receiver") }),
    prepare: async () => void (await mkdir(folder, { recursive: true })),
    clear: () => rm(folder, { recursive: true, force: true }),
  };
}
