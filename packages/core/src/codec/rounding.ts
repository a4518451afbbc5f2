/** Added to a double below 2⁵¹ and taken away again, it leaves the nearest integer, ties to even. */
export const ROUND = 1.5 * 2 ** 52;
