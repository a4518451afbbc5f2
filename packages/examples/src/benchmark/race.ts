import type { Contender, Outcome, Run } from "./contender.js";
import { type Command, MeasuredProcess } from "./measured-process.js";

export interface RaceOptions {
  readonly rounds: number;
  readonly signal: AbortSignal;
  /** A run that takes longer has failed. */
  readonly limitSeconds: number;
  readonly log: (line: string) => void;
}

/**
 * Runs all contenders in rounds, every second round in the opposite order: what one leaves behind, the other meets. One
 * that fails is out, and the others go on.
 */
export async function race(
  contenders: readonly Contender[],
  { rounds, signal, limitSeconds, log }: RaceOptions,
): Promise<Outcome[]> {
  const outcomes = contenders.map(
    ({ name }) => ({ name, runs: [] as Run[] }) as { name: string; runs: Run[]; failed?: string },
  );
  for (let round = 0; round < rounds; round++) {
    const order = contenders.map((_, i) => i);
    for (const i of round % 2 ? order.reverse() : order) {
      const contender = contenders[i]!;
      const outcome = outcomes[i]!;
      if (outcome.failed !== undefined || round >= (contender.rounds ?? rounds)) continue;
      try {
        await contender.prepare?.();
        outcome.runs.push(await runOnce(contender, round === 0, signal, limitSeconds));
      } catch (error) {
        outcome.failed = (error as Error).message;
        log(`${contender.name} failed: ${outcome.failed}`);
      } finally {
        await contender.clear();
      }
    }
  }
  return outcomes;
}

async function runOnce(
  contender: Contender,
  first: boolean,
  signal: AbortSignal,
  limitSeconds: number,
): Promise<Run> {
  const { sender: send, receiver: receive } = contender.commands();
  const processes: MeasuredProcess[] = [];
  const ended = new AbortController();
  let cause: Error | undefined;
  // The first that fails is the cause: the other is ended for it.
  const fail = (error: Error): void => {
    cause ??= error;
    ended.abort();
    for (const each of processes) each.kill();
  };
  const over = (): void => fail(new Error("the benchmark was ended"));
  const patience = setTimeout(
    () => fail(new Error(`it had not ended after ${limitSeconds} s`)),
    1000 * limitSeconds,
  );
  signal.addEventListener("abort", over);
  const start = (name: string, command: Command): MeasuredProcess => {
    const started = new MeasuredProcess(name, command);
    processes.push(started);
    started.ended.catch(fail);
    return started;
  };
  try {
    const began = performance.now();
    const receiver = start("receiver", receive);
    await contender.listening?.(ended.signal);
    const sender = start("sender", send);
    void receiver.address.then((address) => sender.tell(address));
    void sender.address.then((address) => receiver.tell(address));
    await Promise.allSettled([sender.ended, receiver.ended]);
    const seconds = (performance.now() - began) / 1000;
    if (cause) throw cause;
    const run = { seconds, sender: await sender.ended, receiver: await receiver.ended };
    if (first) await contender.check?.(run);
    return run;
  } catch (error) {
    throw cause ?? error;
  } finally {
    clearTimeout(patience);
    signal.removeEventListener("abort", over);
  }
}
