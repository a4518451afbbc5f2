import { type FrameHeader, FrameType, frameName, TensorwireError } from "@tensorwire/core";

/**
 * HELLO and PING belong to no transfer; only a model's sender announces it, and says where it lies.
 * @throws TensorwireError `PROTOCOL`.
 */
export function checkAddress({ type, transfer, flags }: FrameHeader): void {
  const ofChannel = type === FrameType.HELLO || type === FrameType.PING;
  const ofSender = type === FrameType.MANIFEST || type === FrameType.SOURCE || type === FrameType.INDEX;
  const wrong = ofChannel ? transfer !== 0 || flags !== 0 : ofSender && flags !== 0;
  if (wrong)
    throw new TensorwireError("PROTOCOL", `${frameName(type)} for transfer ${transfer}, flags ${flags}`);
}
