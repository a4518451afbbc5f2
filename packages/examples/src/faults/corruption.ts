import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { type Arrangement, arrangementName, arrangements } from "./arrangement.js";
import { type Certificate, makeCertificate } from "./certificate.js";
import { Counts } from "./counts.js";
import { Draws } from "./draws.js";
import { type Ending, exchange, type Outcome } from "./exchange.js";
import { type FaultKind, type FaultOptions, type FaultReport, never } from "./fault-kind.js";
import { CODECS, type CodecChoice, codecName, MIXED, writeModel } from "./models.js";
import { enough, sideBySide } from "./side-by-side.js";
import { CORRUPTIONS, DISTURBANCES, type FaultName, INTERRUPTIONS, type WireFault } from "./wire-fault.js";
import { type WireLayout, wireLayout } from "./wire-layout.js";

const USUAL = 1500;
const IDLE_MS = 1500;
/** On top of the idle timeout: last words, and a machine that is busy with many cases. */
const MARGIN_MS = 20_000;
const WINDOW = { windowBytes: 128 * 1024 };
/** What only slows a transfer down is not to end it: then frames take long, byte by byte on a busy machine. */
const SLOW_IDLE_MS = 6000;
/** Of `none`, the whole takes longer than that, and no frame nearly as long. */
const SLOW_BYTES_PER_SECOND = 40_000;
const WIDTH = 6;

interface Case {
  readonly arrangement: Arrangement;
  readonly choice: CodecChoice;
  readonly fault: WireFault | undefined;
}

/** What an arrangement and a codec make, undisturbed. */
interface Undisturbed {
  readonly file: Buffer;
  readonly layout: Readonly<Record<WireFault["way"], WireLayout>>;
}

class Corruption {
  readonly found = new Counts();
  readonly cases = new Counts();
  readonly codes = new Counts();
  readonly broken = {
    accepted: [] as string[],
    hung: [] as string[],
    wrong: [] as string[],
    unclear: [] as string[],
    failed: [] as string[],
    strays: [] as string[],
  };
  longestStallMs = 0;
  harmless = 0;
  healed = 0;
  repeated = 0;
  readonly #undisturbed = new Map<string, Promise<Undisturbed>>();

  constructor(
    private readonly options: FaultOptions,
    private readonly source: string,
    private readonly certificate: Certificate | undefined,
  ) {}

  async run(number: number): Promise<void> {
    const draws = new Draws(this.options.seed, number);
    const arrangement = draws.pick(arrangements(this.certificate));
    const choice = draws.pick(CODECS);
    const undisturbed = await this.#measure(arrangement, choice);
    const fault = drawFault(draws, undisturbed);
    const folder = join(this.options.scratch, String(number));
    await mkdir(folder);
    try {
      const outcome = await this.#exchange({ arrangement, choice, fault }, folder);
      const name = `case ${number} (${arrangementName(arrangement)}, ${codecName(choice)}, ${fault.name} ${fault.way} at ${fault.at})`;
      this.#judge(name, arrangement, fault, outcome);
      await this.#look(name, folder, undisturbed);
      if (draws.oneIn(3)) await this.#again(name, { arrangement, choice }, folder, undisturbed);
    } finally {
      await rm(folder, { recursive: true });
    }
  }

  #exchange({ arrangement, choice, fault }: Case, folder: string): Promise<Outcome> {
    const slow = fault?.name === "dribble" || fault?.name === "throttle";
    const idle = { idleTimeoutMs: slow ? SLOW_IDLE_MS : IDLE_MS };
    return exchange({
      arrangement,
      source: this.source,
      target: join(folder, "model.safetensors"),
      sending: { ...choice, ...WINDOW, chunkBytes: 32 * 1024, minElements: 0, ...idle },
      receiving: { ...WINDOW, ...idle },
      scratch: this.options.scratch,
      certificate: this.certificate,
      fault,
      patienceMs: idle.idleTimeoutMs + MARGIN_MS,
    });
  }

  #measure(arrangement: Arrangement, choice: CodecChoice): Promise<Undisturbed> {
    const name = `${arrangementName(arrangement)} ${codecName(choice)}`;
    let known = this.#undisturbed.get(name);
    if (!known) {
      known = this.#undisturbedRun(name, arrangement, choice);
      this.#undisturbed.set(name, known);
    }
    return known;
  }

  async #undisturbedRun(name: string, arrangement: Arrangement, choice: CodecChoice): Promise<Undisturbed> {
    const folder = join(this.options.scratch, name.replaceAll(" ", "-"));
    await mkdir(folder);
    const { sender, receiver, wire } = await this.#exchange(
      { arrangement, choice, fault: undefined },
      folder,
    );
    if (sender.is !== "done" || receiver.is !== "done") {
      throw new Error(`${name} fails undisturbed: ${JSON.stringify({ sender, receiver })}`);
    }
    const file = await readFile(join(folder, "model.safetensors"));
    const of = (way: WireFault["way"]): WireLayout =>
      wireLayout(arrangement.channel, way, wire.passed(way).bytes);
    return { file, layout: { "to listener": of("to listener"), "to dialer": of("to dialer") } };
  }

  #judge(name: string, { channel, listens }: Arrangement, fault: WireFault, outcome: Outcome): void {
    const passed = outcome.wire.passed(fault.way);
    const toSender = (listens === "sender") === (fault.way === "to listener");
    const victim = toSender ? outcome.sender : outcome.receiver;
    this.#clear(name, outcome);
    if (!passed.applied && fault.name !== "throttle") return;
    this.cases.add(fault.name);
    const succeeded = outcome.sender.is === "done" && outcome.receiver.is === "done";
    if ((DISTURBANCES as readonly FaultName[]).includes(fault.name)) {
      if (succeeded) this.found.add(fault.name);
      else this.broken.failed.push(`${name}: ${endings(outcome)}`);
      return;
    }
    if (fault.name === "stall") this.longestStallMs = Math.max(this.longestStallMs, outcome.milliseconds);
    if ((INTERRUPTIONS as readonly FaultName[]).includes(fault.name)) {
      // Whatever came of it, it came to an end: the rest is judged of all cases.
      this.found.add(fault.name);
      return;
    }
    if (victim.is !== "done") return this.found.add(fault.name);
    if (channel === "http" || channel === "https") {
      // A request that fails is made again, and says where it goes on: the transfer is none the worse for it.
      this.healed++;
      this.found.add(fault.name);
      return;
    }
    const { first, end } = wireLayout(channel, fault.way, passed.bytes);
    const { harmedAt } = passed;
    if (harmedAt === undefined || harmedAt < first || harmedAt >= end) {
      this.harmless++;
      this.found.add(fault.name);
    } else this.broken.accepted.push(`${name}, of ${first} to ${end}: ${endings(outcome)}`);
  }

  /** Every failure has a name, at either end. */
  #clear(name: string, outcome: Outcome): void {
    for (const end of [outcome.sender, outcome.receiver]) {
      if (end.is === "hung") this.broken.hung.push(`${name}: ${endings(outcome)}`);
      if (end.is === "defect") this.broken.unclear.push(`${name}: ${end.message}`);
      if (end.is === "failed") this.codes.add(end.code);
    }
  }

  /** Under the final name is nothing, or what an undisturbed transfer puts there. */
  async #look(name: string, folder: string, { file }: Undisturbed): Promise<void> {
    const found = await readFile(join(folder, "model.safetensors")).catch(() => undefined);
    if (found && !found.equals(file)) this.broken.wrong.push(name);
  }

  /** What was interrupted goes on, over a wire that is whole, to the same end. */
  async #again(
    name: string,
    of: Omit<Case, "fault">,
    folder: string,
    undisturbed: Undisturbed,
  ): Promise<void> {
    const before = await readdir(folder);
    if (!before.includes("model.safetensors")) {
      const outcome = await this.#exchange({ ...of, fault: undefined }, folder);
      const { sender, receiver } = outcome;
      if (sender.is !== "done" || receiver.is !== "done") {
        this.broken.failed.push(`${name}, again: ${endings(outcome)}`);
        return;
      }
      this.repeated++;
      await this.#look(`${name}, again`, folder, undisturbed);
    }
    const strays = (await readdir(folder)).filter((file) => file !== "model.safetensors");
    if (strays.length) this.broken.strays.push(`${name}: ${strays}`);
  }
}

function drawFault(draws: Draws, { layout }: Undisturbed): WireFault {
  const family = draws.pick([
    CORRUPTIONS,
    CORRUPTIONS,
    CORRUPTIONS,
    CORRUPTIONS,
    DISTURBANCES,
    INTERRUPTIONS,
  ]);
  const name = draws.pick<FaultName>(family);
  const way = draws.pick(["to listener", "to dialer"] as const);
  const { first, end } = layout[way];
  // Payloads are most of it: what comes before and after them has as many turns.
  const [low, high] = draws.pick([
    [first, end],
    [first, Math.min(end, first + 2000)],
    [Math.max(first, end - 400), end],
  ] as const);
  const at = low + draws.below(Math.max(1, high - low));
  const bytes = name === "flip" ? 1 : draws.pick([1, 2, 8, 36, 300, 5000]);
  switch (name) {
    case "pause":
      return { name, way, at, bytes, detail: IDLE_MS / 5 };
    case "throttle":
      return { name, way, at: 0, bytes, detail: SLOW_BYTES_PER_SECOND };
    case "dribble":
      return draws.oneIn(4)
        ? { name, way, at: 0, bytes: 2 ** 20, detail: 0 }
        : { name, way, at, bytes: 3000, detail: 0 };
    case "reorder":
      return { name, way, at, bytes: Math.max(2, bytes), detail: 0 };
    default:
      return { name, way, at, bytes, detail: name === "flip" ? draws.below(8) : draws.below(256) };
  }
}

const said = (end: Ending): string => (end.is === "failed" ? end.code : end.is);
const endings = ({ sender, receiver }: Outcome): string =>
  `sender ${said(sender)}, receiver ${said(receiver)}`;

export const corruption: FaultKind = {
  name: "wire",
  about: "a proxy in the path that changes, loses, repeats, reorders, splits, holds up and cuts what passes",
  async run(options): Promise<FaultReport> {
    const source = join(options.scratch, "source.safetensors");
    await writeModel(source, MIXED);
    const certificate = makeCertificate(options.scratch);
    const run = new Corruption(options, source, certificate);
    const range = { from: options.from, end: enough(options, USUAL) };
    await sideBySide(range, WIDTH, (number) => run.run(number));
    const { broken, cases, found } = run;
    const names = [...CORRUPTIONS, ...DISTURBANCES, ...INTERRUPTIONS];
    const sum = (of: Counts, kinds: readonly string[]): number =>
      kinds.reduce((total, kind) => total + of.of(kind), 0);
    const total = cases.total;
    return {
      rows: [
        ["fault", "transfers", "as promised"],
        ...names.map((name) => [name, cases.of(name), found.of(name)] as const),
        ["", "", ""],
        ["error", "ends", ""],
        ...run.codes.rows(),
      ],
      verdicts: [
        never(
          `every corruption is found (${sum(cases, CORRUPTIONS)}, of them ${run.healed} mended by HTTP, ${run.harmless} where they do no harm)`,
          broken.accepted,
          sum(cases, CORRUPTIONS),
        ),
        never("no wrong file under the final name", broken.wrong, total),
        never(
          `no hang past the idle timeout of ${IDLE_MS} ms (the longest stall took ${Math.round(run.longestStallMs)} ms)`,
          broken.hung,
          total,
        ),
        never("every failure has a clear code at either end", broken.unclear, total),
        never("what is only split, slow or late arrives", broken.failed, sum(cases, DISTURBANCES)),
        never(`the next attempt completes, and leaves nothing beside it`, broken.strays, run.repeated),
      ],
      skipped: certificate ? [] : ["tls: needs openssl"],
    };
  },
};
