/** What the process that soaks is to do. */
export interface SoakTask {
  readonly seed: number;
  readonly from: number;
  readonly count: number;
  readonly scratch: string;
}

/** What it weighs after so many transfers, collected garbage aside. */
export interface Weight {
  readonly transfers: number;
  readonly rssBytes: number;
  readonly heapBytes: number;
  /** Buffers outside the heap. */
  readonly externalBytes: number;
  /** Sockets, timers, servers: whatever keeps a process alive. */
  readonly handles: number;
}

export interface SoakReport {
  readonly weights: readonly Weight[];
  /** How transfers ended. */
  readonly endings: readonly (readonly [string, number])[];
  readonly broken: readonly string[];
  readonly loans: number;
  /** Before the first transfer, and after the last: by kind. */
  readonly handles: { readonly before: Record<string, number>; readonly after: Record<string, number> };
  readonly listeners: { readonly before: number; readonly after: number };
  readonly descriptors: { readonly before: number; readonly after: number };
}
