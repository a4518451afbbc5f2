/** One of the two directions of a wire, by where its bytes go. */
export type Way = "to listener" | "to dialer";

/** What changes bytes: each must be found. */
export const CORRUPTIONS = ["flip", "drop", "duplicate", "reorder", "insert", "zero"] as const;
/** What changes none: a transfer takes it, or ends with an error. */
export const DISTURBANCES = ["split", "dribble", "throttle", "pause"] as const;
/** What lets no more bytes through. */
export const INTERRUPTIONS = ["stall", "half-close", "cut"] as const;

export type FaultName =
  | (typeof CORRUPTIONS)[number]
  | (typeof DISTURBANCES)[number]
  | (typeof INTERRUPTIONS)[number];

/** What happens to the bytes that go one way. */
export interface WireFault {
  readonly name: FaultName;
  readonly way: Way;
  /** Bytes that pass before it. */
  readonly at: number;
  /** Bytes that it is about. */
  readonly bytes: number;
  /** Of `flip`: which bit of the byte. Of `pause`, milliseconds. Of `throttle`, bytes a second. */
  readonly detail: number;
}

/** What goes on instead of a portion: bytes, or what becomes of the connection. */
export type Step = Buffer | { readonly pauseMs: number } | "stall" | "half-close" | "cut";

/** Applies a fault to the bytes of one way, as they come. */
export class Meddler {
  #position = 0;
  #skip = 0;
  #applied = false;
  #harmedAt: number | undefined;
  readonly #kept: Buffer[] = [];

  constructor(
    private readonly fault: WireFault | undefined,
    private readonly keep: boolean,
  ) {}

  /** Bytes that came. */
  get position(): number {
    return this.#position;
  }

  /** Where the first byte is that is not what was sent; `undefined` as long as there is none. */
  get harmedAt(): number | undefined {
    return this.#harmedAt;
  }

  get applied(): boolean {
    return this.#applied;
  }

  /** The bytes that came, where they are kept. */
  get bytes(): Buffer {
    return Buffer.concat(this.#kept);
  }

  steps(portion: Buffer): Step[] {
    if (this.keep) this.#kept.push(portion);
    const { fault } = this;
    const at = fault ? fault.at - this.#position : Number.POSITIVE_INFINITY;
    this.#position += portion.length;
    if (!fault) return [portion];
    if (fault.name === "dribble") return this.#dribble(portion, fault);
    if (fault.name === "throttle") return [{ pauseMs: (portion.length / fault.detail) * 1000 }, portion];
    if (this.#skip > 0) return this.#skipping(portion);
    if (this.#applied || at >= portion.length) return [portion];
    return this.#apply(fault, portion, Math.max(0, at));
  }

  #dribble(portion: Buffer, { at, bytes }: WireFault): Step[] {
    const begin = Math.max(0, at - (this.#position - portion.length));
    const end = Math.min(portion.length, begin + bytes);
    if (begin >= end) return [portion];
    this.#applied = true;
    const single = Array.from({ length: end - begin }, (_, i) => portion.subarray(begin + i, begin + i + 1));
    return [portion.subarray(0, begin), ...single, portion.subarray(end)];
  }

  #skipping(portion: Buffer): Step[] {
    const skipped = Math.min(this.#skip, portion.length);
    this.#skip -= skipped;
    return [portion.subarray(skipped)];
  }

  #apply(fault: WireFault, portion: Buffer, at: number): Step[] {
    const before = portion.subarray(0, at);
    const end = Math.min(portion.length, at + fault.bytes);
    const struck = portion.subarray(at, end);
    const after = portion.subarray(end);
    this.#applied = true;
    const harm = (changed: Buffer): Step[] => {
      if (!changed.equals(struck)) {
        // Of zeros that come twice, only those at their end are too many.
        const same = commonLength(Buffer.concat([struck, after]), Buffer.concat([changed, after]));
        this.#harmedAt = this.#position - portion.length + at + same;
      }
      return [before, changed, after];
    };
    switch (fault.name) {
      case "flip": {
        const flipped = Buffer.from(struck);
        flipped[0]! ^= 1 << fault.detail;
        return harm(flipped);
      }
      case "zero":
        return harm(Buffer.alloc(struck.length));
      case "drop":
        this.#skip = fault.bytes - struck.length;
        return harm(Buffer.alloc(0));
      case "duplicate":
        return harm(Buffer.concat([struck, struck]));
      case "insert":
        return harm(Buffer.concat([Buffer.alloc(fault.bytes, fault.detail), struck]));
      case "reorder": {
        // Both runs out of one portion: what is held back until more comes may be what the peer waits for.
        const half = struck.length >> 1;
        return harm(Buffer.concat([struck.subarray(half), struck.subarray(0, half)]));
      }
      case "split":
        return [before, struck, after];
      case "pause":
        return [before, { pauseMs: fault.detail }, portion.subarray(at)];
      case "stall":
      case "half-close":
      case "cut":
        return [before, fault.name];
      default:
        throw new Error(`${fault.name} is not applied at one place`);
    }
  }
}

function commonLength(a: Buffer, b: Buffer): number {
  const end = Math.min(a.length, b.length);
  let length = 0;
  while (length < end && a[length] === b[length]) length++;
  return length;
}
