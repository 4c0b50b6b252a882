/** One batch in a process of its own: `tsx test/differential/main.ts FIRST_SEED COUNT` prints a BatchResult as JSON. */
import { runBatch } from './batch.ts';

const [first, count] = process.argv.slice(2).map(Number);
if (!Number.isSafeInteger(first) || !Number.isSafeInteger(count) || count! < 1) {
  throw new Error('expected the first seed and a number of cases');
}
console.log(JSON.stringify(runBatch(first!, count!)));
