import {
  type Channel,
  encodeFrame,
  encodeJson,
  FrameType,
  PREAMBLE,
  type TensorwireError,
} from "@tensorwire/core";
import { faultOf } from "../session/fault.js";
import { withinGrace } from "../session/grace.js";

/** What somebody hears who is not let in: ERROR in the place of HELLO. */
export function refusalBytes(error: TensorwireError): readonly Uint8Array[] {
  return [PREAMBLE, encodeFrame(FrameType.ERROR, 0, 0, encodeJson(faultOf(error)))];
}

/** Tells a peer why it is not let in, and closes the channel. Never rejects. */
export async function turnAway(channel: Channel, error: TensorwireError): Promise<void> {
  await withinGrace(channel.send(refusalBytes(error)).catch(() => {}));
  await channel.close(error).catch(() => {});
}
