/**
 * `npm run fuzz -- [--minutes N] [--seed S]`: random programs through both verifiers, then through all that run them.
 * See README.md.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Explanation, explain } from './explain.ts';
import { generate } from './generator.ts';
import { gaveUp, Judge, type Judgement, type Subject, type Wrong } from './judge.ts';
import { fuzzOptions } from './options.ts';
import { shrink } from './shrink.ts';

const FOUND = join(import.meta.dirname, '../test/fuzz/regressions');
const MAX_FILES = 10;
/** For making one finding smaller, and for the sampled runs of one program: nothing may eat the others' time. */
const SHRINK_SECONDS = { wrong: 20, explained: 3 };
const SAMPLE_SECONDS = 5;
/** What has been found is made smaller for so long after the time is up. */
const GRACE_SECONDS = 3;
/** A program that takes longer to judge is not made smaller. */
const SLOW_MS = 5000;

const { minutes, seed: first } = fuzzOptions(process.argv.slice(2));
const judge = new Judge();
const counts = {
  programs: 0,
  bothAccept: 0,
  bothRefuse: 0,
  refusedHereOnly: 0,
  gaveUp: 0,
  notAsked: 0,
  tooComplex: 0,
  watched: 0,
};
const wrongs = new Map<string, number>();
/** Accepted here only, by why and the kernel's reason; sampled runs stayed within the claims. */
const better = new Map<string, number>();
/** Of what is wrong: the seed of the first program. */
const firstSeeds = new Map<string, number>();
const onlyHere = new Map<string, number>();
const add = (to: Map<string, number>, key: string): void => void to.set(key, (to.get(key) ?? 0) + 1);
let files = 0;
let slowest = 0;
const end = Date.now() + minutes * 60_000;

/** @returns what says whether `seconds` from now, or the time of the whole run, are not over yet */
function within(seconds: number): () => boolean {
  const until = Math.min(Date.now() + seconds * 1000, end + GRACE_SECONDS * 1000);
  return () => Date.now() < until;
}

/** @param why what explains it, where it is explained */
function sameWrong(
  subject: Subject,
  wrong: Wrong | undefined,
  reason: string,
  why: Explanation | undefined,
): (text: string) => boolean {
  return text => {
    const candidate = { ...subject, text };
    let judgement: Judgement;
    try {
      const judged = judge.judge(candidate);
      if (judged === undefined) return false;
      judgement = judged;
    } catch {
      return false;
    }
    return (
      judgement.wrong === wrong &&
      (wrong !== undefined || (judgement.kernel === true && !judgement.ours)) &&
      judgement.reason === reason &&
      (wrong !== 'accepted here only' || explain(candidate) === why)
    );
  };
}

/** @param took to judge it, ms. Prints it, smaller unless each question would take long: the kernel cannot be stopped. */
function show(
  subject: Subject,
  { wrong, reason, detail }: Judgement,
  took: number,
  why?: Explanation | undefined,
): string {
  const slow = took > SLOW_MS;
  const seconds = wrong === undefined || why !== undefined ? SHRINK_SECONDS.explained : SHRINK_SECONDS.wrong;
  const text = slow ? subject.text : shrink(subject.text, sameWrong(subject, wrong, reason, why), within(seconds));
  const shrunk = slow ? { detail } : judge.judge({ ...subject, text })!;
  console.log(
    `\n== ${wrong ?? 'refused here only'}: ${reason}${why === undefined ? '' : ` (${why})`}\n   seed ${subject.seed}, ${subject.type}\n${text}\n-- ${shrunk.detail || detail}`,
  );
  return text;
}

function report(subject: Subject, judgement: Judgement, took: number): void {
  const { wrong, reason } = judgement;
  const text = show(subject, judgement, took);
  if (++files > MAX_FILES) return;
  mkdirSync(FOUND, { recursive: true });
  const file = join(FOUND, `${wrong!.replaceAll(' ', '-')}-${subject.seed}.txt`);
  writeFileSync(file, `# ${wrong}: ${reason}\n# type ${subject.type}, seed ${subject.seed}\n${text}\n`);
  console.log(`-- written to ${file}`);
}

console.log(`seed ${first}, ${minutes} minutes`);
/** @returns what is wrong with the program of that seed */
function examine(subject: Subject): string | undefined {
  const started = Date.now();
  const judgement = judge.judge(subject);
  const took = Date.now() - started;
  slowest = Math.max(slowest, took);
  counts.programs++;
  if (judgement === undefined) {
    counts.tooComplex++;
    return undefined;
  }
  if (judgement.watched) counts.watched++;
  if (judgement.kernel === undefined && judge.kernelPermitted) counts.notAsked++;
  else if (judgement.ours && judgement.kernel !== false) counts.bothAccept++;
  else if (!judgement.ours && judgement.kernel !== true) counts.bothRefuse++;
  else if (!judgement.ours) {
    counts.refusedHereOnly++;
    add(onlyHere, judgement.reason);
    if (onlyHere.get(judgement.reason) === 1) show(subject, judgement, took);
  }
  const { wrong, reason } = judgement;
  if (wrong === undefined) return undefined;
  if (wrong === 'accepted here only') {
    if (gaveUp(reason)) {
      counts.gaveUp++;
      return undefined;
    }
    const why = explain(subject);
    if (why !== undefined) {
      const unsound = judge.sample(subject, within(SAMPLE_SECONDS));
      if (unsound === undefined) {
        const known = `${why}: ${reason}`;
        add(better, known);
        if (better.get(known) === 1) show(subject, judgement, took, why);
        return undefined;
      }
      console.log(unsound);
    }
  }
  const key = `${wrong}: ${reason}`;
  // The first of each class is shrunk and kept; the others are counted.
  if (!wrongs.has(key)) report(subject, judgement, took);
  return key;
}

// At least one program: `--minutes 0` is what repeats a finding.
for (let seed = first; seed === first || Date.now() < end; seed++) {
  const subject: Subject = { ...generate(seed), seed };
  let key: string | undefined;
  try {
    key = examine(subject);
  } catch (error) {
    // The fuzzer itself: it goes on, so that what was found before is still told at the end.
    console.log(
      `\n== the fuzzer failed\n   seed ${seed}, ${subject.type}\n${subject.text}\n-- ${(error as Error).stack}`,
    );
    key = `the fuzzer failed: ${(error as Error).message.split('\n')[0]}`;
  }
  if (key === undefined) continue;
  if (!wrongs.has(key)) firstSeeds.set(key, seed);
  add(wrongs, key);
}

const table = (title: string, of: ReadonlyMap<string, number>): void => {
  if (of.size === 0) return;
  console.log(title);
  for (const [key, count] of [...of].sort((a, b) => b[1] - a[1]).slice(0, 30))
    console.log(`${String(count).padStart(8)} ${key}`);
};
console.log(`
${counts.programs} programs from seed ${first} on${judge.kernelPermitted ? '' : ' (no kernel: bpf(2) is not permitted)'}
${String(counts.bothAccept).padStart(8)} accepted by both, and run
${String(counts.bothRefuse).padStart(8)} refused by both
${String(counts.refusedHereOnly).padStart(8)} refused here only
${String(counts.gaveUp).padStart(8)} accepted here only, where the kernel gave up
${String(counts.notAsked).padStart(8)} not shown to the kernel, which might crash
${String(counts.tooComplex).padStart(8)} left out: too complex for a fuzzer
${String(counts.watched).padStart(8)} held against the verifier's claims, ${judge.compared} instructions
${String(slowest).padStart(8)} ms for the slowest program`);
table('refused here only:', onlyHere);
table('accepted here only, and explained (sampled runs stayed within the claims):', better);
table('wrong:', wrongs);
await judge.dispose();
if (wrongs.size > 0) {
  process.exitCode = 1;
  // Whoever sees only the end of this output sees what to repeat.
  console.log('first of each, again with:');
  for (const [key, seed] of firstSeeds) console.log(`  npm run fuzz -- --minutes 0 --seed ${seed}   # ${key}`);
}
