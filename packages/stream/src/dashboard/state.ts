import type { Sight, Way } from "./sight.js";

/** So many transfers that are over are kept, the last ones. */
export const MAX_HISTORY = 200;

/** So many rates are kept: five minutes of them. */
export const MAX_RATES = 600;

/** Between looks that are further apart nobody looked: what moved meanwhile says nothing of the rate now. */
const GAP_MS = 3000;

/**
 * Looks that are closer are of one moment, as where a page is opened right after the others were told: bytes move a chunk
 * at a time, and between such looks one chunk would be gigabytes a second.
 */
const MOMENT_MS = 100;

/** A transfer's rate is that of its last looks. */
const RECENT_LOOKS = 10;

/** A transfer that is under way. */
export interface Active extends Sight {
  /** How often it was interrupted, and goes on. */
  readonly retries: number;
  /** The code of an interruption, while nothing has moved since. */
  readonly trouble: string | undefined;
  /** Where it was at the last looks: `[when, source bytes that moved]`. */
  readonly recent: readonly (readonly [number, number])[];
}

/** A transfer that is over. */
export interface Ended extends Sight {
  /** Of all that ended here: 1, 2, … */
  readonly sequence: number;
  readonly endedAt: number;
  readonly seconds: number;
  readonly retries: number;
  /** An error's code; `undefined` where it is done. */
  readonly code: string | undefined;
  readonly message: string | undefined;
}

/** Source bytes a second. */
export interface Rates {
  readonly at: number;
  readonly out: number;
  readonly in: number;
}

/** What a dashboard shows. Its size has a bound, however many transfers there were. */
export interface DashboardState {
  readonly active: ReadonlyMap<number, Active>;
  /** The oldest first. */
  readonly history: readonly Ended[];
  readonly rates: readonly Rates[];
  readonly done: number;
  readonly failed: number;
  /** Peers that were turned away. */
  readonly refused: number;
  /** Source bytes that moved since the beginning. */
  readonly moved: Readonly<Record<Way, number>>;
  /** When somebody looked last, and what had moved then. */
  readonly looked: { readonly at: number; readonly moved: Readonly<Record<Way, number>> } | undefined;
}

export type DashboardEvent =
  | { readonly type: "began"; readonly sight: Sight }
  | { readonly type: "interrupted"; readonly id: number; readonly code: string }
  | {
      readonly type: "ended";
      readonly sight: Sight;
      readonly at: number;
      readonly code?: string | undefined;
      readonly message?: string | undefined;
    }
  /** It turned out to be the other half of one that is shown. */
  | { readonly type: "gone"; readonly id: number }
  | { readonly type: "refused" }
  | { readonly type: "looked"; readonly at: number; readonly sights: readonly Sight[] };

export const INITIAL_STATE: DashboardState = {
  active: new Map(),
  history: [],
  rates: [],
  done: 0,
  failed: 0,
  refused: 0,
  moved: { out: 0, in: 0, within: 0 },
  looked: undefined,
};

/** The state after an event. */
export function next(state: DashboardState, event: DashboardEvent): DashboardState {
  switch (event.type) {
    case "began":
      return withActive(state, { ...event.sight, retries: 0, trouble: undefined, recent: [] });
    case "interrupted": {
      const active = state.active.get(event.id);
      if (!active) return state;
      return withActive(state, { ...active, retries: active.retries + 1, trouble: event.code });
    }
    case "ended":
      return ended(state, event);
    case "gone": {
      if (!state.active.has(event.id)) return state;
      const active = new Map(state.active);
      active.delete(event.id);
      return { ...state, active };
    }
    case "refused":
      return { ...state, refused: state.refused + 1 };
    case "looked":
      return looked(state, event);
  }
}

/** Source bytes a second of a transfer: over its last looks, else since it began. */
export function rateOf({ recent, startedAt, ...sight }: Active, now: number): number {
  const [first, last] = [recent[0], recent.at(-1)];
  const [from, to] =
    first && last && first !== last
      ? [first, last]
      : [
          [startedAt, 0],
          [now, movedBy(sight)],
        ];
  return to[0]! > from[0]! ? Math.max(0, (to[1]! - from[1]!) * 1000) / (to[0]! - from[0]!) : 0;
}

const movedBy = ({ sourceBytes, resumedBytes }: Pick<Sight, "sourceBytes" | "resumedBytes">): number =>
  Math.max(0, sourceBytes - resumedBytes);

function withActive(state: DashboardState, active: Active): DashboardState {
  return { ...state, active: new Map(state.active).set(active.id, active) };
}

function ended(state: DashboardState, event: DashboardEvent & { type: "ended" }): DashboardState {
  const { sight, at, code, message } = event;
  const before = state.active.get(sight.id);
  const active = new Map(state.active);
  active.delete(sight.id);
  const entry: Ended = {
    ...sight,
    sequence: state.done + state.failed + 1,
    endedAt: at,
    seconds: (at - sight.startedAt) / 1000,
    retries: before?.retries ?? 0,
    code,
    message,
  };
  return {
    ...state,
    active,
    history: [...state.history.slice(1 - MAX_HISTORY), entry],
    done: state.done + (code === undefined ? 1 : 0),
    failed: state.failed + (code === undefined ? 0 : 1),
    moved: movedSince(state.moved, before, sight),
  };
}

function looked(state: DashboardState, event: DashboardEvent & { type: "looked" }): DashboardState {
  const { at, sights } = event;
  const last = state.looked;
  const again = last !== undefined && at >= last.at && at - last.at < MOMENT_MS;
  const active = new Map(state.active);
  let { moved } = state;
  for (const sight of sights) {
    const before = active.get(sight.id);
    if (!before) continue;
    moved = movedSince(moved, before, sight);
    active.set(sight.id, seenAgain(before, sight, again ? undefined : at));
  }
  if (again) return { ...state, active, moved };
  const seconds = last ? (at - last.at) / 1000 : 0;
  const fresh = !last || at - last.at > GAP_MS || seconds <= 0;
  const rates = fresh
    ? state.rates
    : [
        ...state.rates.slice(1 - MAX_RATES),
        { at, out: (moved.out - last.moved.out) / seconds, in: (moved.in - last.moved.in) / seconds },
      ];
  return { ...state, active, moved, rates, looked: { at, moved } };
}

/** @param at undefined where it was seen at this moment already. */
function seenAgain(before: Active, sight: Sight, at: number | undefined): Active {
  const here = movedBy(sight);
  // An interruption can take some of it back: from there on it is another run.
  const kept = before.recent.filter(
    ([when, bytes]) => (at ?? when) - when <= RECENT_LOOKS * GAP_MS && bytes <= here,
  );
  return {
    ...sight,
    retries: before.retries,
    trouble: here > movedBy(before) ? undefined : before.trouble,
    recent: at === undefined ? kept : [...kept.slice(1 - RECENT_LOOKS), [at, here]],
  };
}

function movedSince(
  moved: DashboardState["moved"],
  before: Sight | undefined,
  { way, ...now }: Sight,
): DashboardState["moved"] {
  const more = movedBy(now) - (before ? movedBy(before) : 0);
  return more > 0 ? { ...moved, [way]: moved[way] + more } : moved;
}
