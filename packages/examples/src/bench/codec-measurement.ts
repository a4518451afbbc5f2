import { type CodecBackend, defaultCodecs, PortableBackend } from "@tensorwire/core";
import { instructionSets, loadNativeBackend, nodePacker } from "@tensorwire/quant-native";
import { median } from "../memory/bars.js";
import type { CodecCase } from "./codec-cases.js";
import { type Areas, CaseChunks, type Sizes } from "./codec-chunks.js";

/** What runs codecs in a row of the table. */
export interface Contender {
  /** An instruction set, or which portable codecs. */
  readonly name: string;
  /** Does every job within its call. */
  readonly alone: CodecBackend;
  /** Does jobs on libuv's threads; only the fastest is measured so. */
  readonly threads?: CodecBackend;
  /** The portable codecs are slow: they are not given all chunks, and not in every run. */
  readonly portable: boolean;
  /** Whether it packs what is made to be packed. */
  readonly packs: boolean;
}

/** GB/s of source: medians. */
export interface Speeds {
  readonly encode: number;
  readonly decode: number;
}

export interface Row {
  readonly by: string;
  readonly portable: boolean;
  readonly packs: boolean;
  /** On one thread. */
  readonly one: Speeds;
  /** memcpy, timed between the others. */
  readonly memcpy: number;
  readonly two?: Speeds;
}

export interface CaseResult {
  readonly given: CodecCase;
  readonly sizes: Sizes;
  readonly rows: readonly Row[];
}

export interface Effort {
  readonly runs: number;
  readonly portableRuns: number;
  readonly portableChunks: number;
}

/** The instruction sets of this processor, fastest first, and the portable codecs. @param only names of some of them. */
export function contenders(only?: readonly string[]): Contender[] {
  const native = instructionSets().map((isa, i): Contender => {
    const alone = loadNativeBackend({ isa, synchronous: true })!;
    const threads = loadNativeBackend({ isa })!;
    return { name: isa, alone, portable: false, packs: true, ...(i === 0 && { threads }) };
  });
  const all = [...native, { name: "portable", alone: new PortableBackend(), portable: true, packs: false }];
  const packer = nodePacker(new Error("not the addon's"));
  const packing = new PortableBackend(defaultCodecs, packer);
  all.push({ name: `portable, ${packer.name}`, alone: packing, portable: true, packs: true });
  if (!only) return all;
  const unknown = only.find((name) => all.every((contender) => contender.name !== name));
  if (unknown === undefined) return all.filter(({ name }) => only.includes(name));
  throw new Error(`there is no ${unknown} here; there are ${all.map(({ name }) => name).join("; ")}`);
}

/** A portable contender that packs is another only where there is something to pack. */
function takePart(among: readonly Contender[], { spec }: CodecCase): readonly Contender[] {
  const { packs } = defaultCodecs.get(spec.name);
  return packs ? among : among.filter((contender) => !(contender.portable && contender.packs));
}

interface Timed {
  readonly speeds: number[];
  readonly run: () => number | Promise<number>;
  readonly runs: number;
}

/** Times a case on every contender, and memcpy between them. */
export async function measure(
  given: CodecCase,
  source: Uint8Array,
  areas: Areas,
  among: readonly Contender[],
  { runs, portableRuns, portableChunks }: Effort,
): Promise<CaseResult> {
  const part = takePart(among, given);
  // Whoever packs best makes the payloads.
  const maker = [...part, ...among].find(({ packs }) => packs) ?? part[0]!;
  const chunks = await CaseChunks.prepare(given, source, areas, maker.alone);
  const timed: Timed[] = [];
  const time = (run: Timed["run"], times = runs): number[] => {
    const speeds: number[] = [];
    timed.push({ speeds, run, runs: times });
    return speeds;
  };
  const copied = time(() => copySpeed(source, areas.target));
  const pending = part.map(({ name, alone, threads, portable, packs }) => {
    const both = (backend: CodecBackend, parallel: boolean) => {
      const manner = {
        backend,
        packs,
        parallel,
        chunks: portable ? portableChunks : Number.POSITIVE_INFINITY,
      };
      const times = portable ? portableRuns : runs;
      return {
        encode: time(() => chunks.encode(manner), times),
        decode: time(() => chunks.decode(manner), times),
      };
    };
    return { name, portable, packs, one: both(alone, false), ...(threads && { two: both(threads, true) }) };
  });
  for (let run = 0; run < runs; run++) {
    // In alternating order: what one leaves behind, the other meets, and the other way round.
    for (const each of run % 2 ? timed.toReversed() : timed) {
      if (run < each.runs) each.speeds.push(await each.run());
    }
  }
  const speeds = ({ encode, decode }: { encode: number[]; decode: number[] }): Speeds => ({
    encode: median(encode),
    decode: median(decode),
  });
  const rows = pending.map(({ name, portable, packs, one, two }) => ({
    by: name,
    portable,
    packs,
    one: speeds(one),
    memcpy: median(copied),
    ...(two && { two: speeds(two) }),
  }));
  return { given, sizes: chunks.sizes, rows };
}

/** `set` is the C library's memmove. */
function copySpeed(source: Uint8Array, target: Uint8Array): number {
  const began = performance.now();
  target.set(source);
  return source.length / (performance.now() - began) / 1e6;
}
