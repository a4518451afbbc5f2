import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bearerTokens } from "@tensorwire/stream";
import { Coordinator } from "../federated-averaging/coordinator.js";
import { readDigits } from "../federated-averaging/digits.js";
import { Participant } from "../federated-averaging/participant.js";
import { digitsOf } from "../federated-averaging/share.js";
import type { Trial, TrialResult } from "./trial.js";

const CLIENTS = ["site-1", "site-2", "site-3"];

/** The example's own server and clients in one process, so that a trial takes one core: every model moves over a socket all the same. */
async function run({ codec, feedback, updates, base, seed, rounds }: Trial): Promise<TrialResult> {
  const folder = await mkdtemp(join(tmpdir(), "tensorwire-accuracy-"));
  try {
    const { training, test } = await readDigits();
    const grants = CLIENTS.map((name) => [name, { token: name, fetch: true, publish: true }]);
    const authorize = await bearerTokens(Object.fromEntries(grants));
    const coordinator = await Coordinator.open({
      ...{
        folder: join(folder, "server"),
        place: { authorize },
        clients: CLIENTS,
        rounds,
        codec,
        seed,
        updates,
        base,
      },
      // Whoever is slow here is slow with everything.
      ...{ quorum: CLIENTS.length, deadlineMs: 3_600_000 },
    });
    let sizes = { modelBytes: 0, updateBytes: 0, sourceBytes: 0 };
    const clients = CLIENTS.map(async (name, i) => {
      const participant = await Participant.open({
        ...{ url: coordinator.url, dial: { token: name }, name, codec, feedback, updates, seed },
        digits: digitsOf({ number: i + 1, of: CLIENTS.length }, training, seed),
        folder: join(folder, name),
      });
      for await (const { received, sent } of participant.rounds()) {
        sizes = {
          modelBytes: received.wireBytes,
          updateBytes: sent!.wireBytes,
          sourceBytes: sent!.sourceBytes,
        };
      }
    });
    const scores: { accuracy: number; loss: number }[] = [];
    const server = async (): Promise<void> => {
      for await (const score of coordinator.rounds(test)) scores.push(score);
      await coordinator.close();
    };
    await Promise.all([server(), ...clients]);
    return { accuracy: scores.map((each) => each.accuracy), loss: scores.map((each) => each.loss), ...sizes };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

process.once("message", async (trial: Trial) => {
  process.send!(await run(trial));
  process.disconnect();
});
