import { execFileSync } from "node:child_process";
import { rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { TensorInfo } from "@tensorwire/core";
import type { Contender, Run } from "./contender.js";
import type { EndJob } from "./end-job.js";
import type { Command } from "./measured-process.js";

export interface OurTransfer
  extends Pick<EndJob, "held" | "taken" | "channel" | "codec" | "compress" | "windowBytes" | "chunkBytes"> {
  readonly name: string;
  readonly scratch: string;
  /** A path, or the tensors of a container. */
  readonly model: string | readonly TensorInfo[];
  readonly rounds?: number;
}

const program = fileURLToPath(new URL("./end.js", import.meta.url));

/** A transfer of ours: two Node processes, each of which imports the package, does its half, and exits. */
export function ours({ name, scratch, model, rounds, ...how }: OurTransfer): Contender {
  const container = typeof model !== "string";
  const path = container ? join(scratch, "container.json") : model;
  const target = join(scratch, "target.safetensors");
  const pipe = join(scratch, "pipe");
  const job = (role: EndJob["role"]): string[] => {
    const job: EndJob = {
      ...how,
      role,
      manner: container ? "container" : "file",
      path: container || role === "sender" ? path : target,
      socket: join(scratch, "socket"),
    };
    return [process.execPath, program, JSON.stringify(job)];
  };
  const commands = (): { sender: Command; receiver: Command } => {
    const [sender, receiver] = [{ argv: job("sender") }, { argv: job("receiver") }];
    return how.channel === "pipe"
      ? { sender: { ...sender, stdout: pipe }, receiver: { ...receiver, stdin: pipe } }
      : { sender, receiver };
  };
  return {
    name,
    ...(rounds !== undefined && { rounds }),
    commands,
    async prepare() {
      if (container) await writeFile(path, JSON.stringify(model));
      if (how.channel === "pipe") execFileSync("mkfifo", [pipe]);
    },
    async check({ sender, receiver }: Run) {
      if (sender.digest !== receiver.digest) throw new Error("the two ends disagree about what was sent");
      if (container) return;
      const [before, after] = await Promise.all([stat(path), stat(target)]);
      if (before.size !== after.size) throw new Error(`${before.size} bytes became ${after.size}`);
    },
    clear: async () => {
      await Promise.all([target, pipe].map((path) => rm(path, { force: true })));
    },
  };
}
