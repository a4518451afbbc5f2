import type { CodecSpec } from "@tensorwire/stream";
import type { TensorInfo } from "@tensorwire/core";

/** How the two ends of a transfer of ours meet. */
export const CHANNELS = ["ws", "http", "tcp", "unix", "pipe"] as const;
export type ChannelName = (typeof CHANNELS)[number];

/** File to file, or from tensors that the sending caller yields to tensors that the receiving caller borrows. */
export type Manner = "file" | "container";

/** What both ends of a transfer must know: of models without a path, which tensors there are. */
export interface EndJob {
  readonly role: "sender" | "receiver";
  readonly manner: Manner;
  readonly channel: ChannelName;
  /** Of a file; of a container, a JSON file with its tensors' names and shapes. */
  readonly path: string;
  /** Of the Unix socket. */
  readonly socket: string;
  /** What the sending caller of a container does: it makes each tensor in one buffer (the default), or has all of them before. */
  readonly held?: "one" | "all" | undefined;
  /** What its receiving caller does: it borrows each tensor (the default) or each chunk, or keeps all tensors. */
  readonly taken?: "tensors" | "chunks" | "all" | undefined;
  readonly codec: string | CodecSpec;
  readonly compress?: "auto" | undefined;
  readonly windowBytes?: number | undefined;
  readonly chunkBytes?: number | undefined;
}

export type ContainerTensors = readonly TensorInfo[];
