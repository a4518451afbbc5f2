import type { CodecFlags } from "./codec-flags.js";
import type { IntegrityFlags } from "./integrity-flags.js";
import type { OutputFlags } from "./output-flags.js";
import type { PeerFlags } from "./peer-flags.js";
import type { RangeFlags } from "./range-flags.js";
import type { TransferFlags } from "./transfer-flags.js";
import type { WriteFlags } from "./write-flags.js";

/** What the options of all commands parse to. */
export interface Flags
  extends CodecFlags,
    IntegrityFlags,
    OutputFlags,
    PeerFlags,
    RangeFlags,
    TransferFlags,
    WriteFlags {}
