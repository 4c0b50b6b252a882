/** How JS waits for native threads: they can't call it, so it looks again, at growing distances. */

/** Longest time between two looks, ms. */
const LONGEST = 16;

/** Resolves after the event loop has had its turn. */
export function turn(): Promise<void> {
  const { setImmediate } = globalThis as { setImmediate?: (callback: () => void) => unknown };
  return new Promise(resolve => {
    if (setImmediate) setImmediate(resolve);
    else setTimeout(resolve, 0);
  });
}

/** Resolves once `ready` says so: at the next turn of the event loop at the earliest, 16 ms late at most. */
export async function until(ready: () => boolean): Promise<void> {
  await turn();
  for (let pause = 1; !ready(); pause = Math.min(2 * pause, LONGEST)) {
    const now = pause;
    await new Promise<void>(resolve => {
      setTimeout(resolve, now);
    });
  }
}
