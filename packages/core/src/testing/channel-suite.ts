import { describe } from "vitest";
import { closingTests } from "./channel-closing.js";
import { deliveryTests } from "./channel-delivery.js";
import { type ChannelPair, type ChannelSuiteOptions, ChannelTrial } from "./channel-trial.js";

export type { ChannelPair, ChannelSuiteOptions } from "./channel-trial.js";

/**
 * Registers the tests that any channel with two directions must pass: what `Channel` and `ChannelReceiver` promise.
 * @param makePair Makes a new pair for each test.
 * @example
 * // not run: a suite is of a test file, which vitest runs
 * channelSuite("memory", async () => {
 *   const [left, right] = memoryChannelPair();
 *   return { left, right };
 * });
 */
export function channelSuite(
  name: string,
  makePair: () => ChannelPair | Promise<ChannelPair>,
  options: ChannelSuiteOptions = {},
): void {
  describe(`channel ${name}`, () => {
    const trial = new ChannelTrial(makePair, options);
    deliveryTests(trial);
    closingTests(trial);
  });
}
