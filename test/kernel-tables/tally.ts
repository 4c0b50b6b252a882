/** Counts of what became of the tables' tests, by file and in all. */

export type Fate =
  | 'agreed'
  | 'falselyAccepted'
  | 'falselyRefused'
  | 'runsDiffer'
  | 'featureMissing'
  | 'kernelLacks'
  | 'otherType';

const COLUMNS: readonly Fate[] = [
  'agreed',
  'falselyAccepted',
  'falselyRefused',
  'runsDiffer',
  'featureMissing',
  'kernelLacks',
  'otherType',
];

/** Tests that are not for us for one reason. */
interface Missing {
  tests: number;
  /** Of these, how many Linux accepts, as far as it was asked. */
  accepted: number;
}

export class Tallies {
  readonly #files = new Map<string, Record<Fate, number>>();
  readonly #otherTypes = new Map<string, Missing>();
  /** By kernel function. */
  readonly #lacking = new Map<string, Missing>();
  /** By name of the feature. */
  readonly features = new Map<string, Missing>();
  /** Tests that both refuse, where the kernel's words are known; and how many of them we refuse in these. */
  refusals = 0;
  sameWords = 0;

  count(file: string, fate: Fate): void {
    const tally = this.#files.get(file) ?? emptyTally();
    tally[fate]++;
    this.#files.set(file, tally);
  }

  featureMissing(file: string, feature: string, linuxAccepts: boolean): void {
    this.count(file, 'featureMissing');
    add(this.features, feature, linuxAccepts);
  }

  /** A test that calls a function which is neither in the kernel nor here, and whose refusals would come after that. */
  kernelLacks(file: string, kfunc: string): void {
    this.count(file, 'kernelLacks');
    add(this.#lacking, kfunc, false);
  }

  otherType(file: string, type: string): void {
    this.count(file, 'otherType');
    add(this.#otherTypes, type, false);
  }

  /** Both refuse. @param alike what the kernel's log ends with is part of our text */
  refused(alike: boolean): void {
    this.refusals++;
    if (alike) this.sameWords++;
  }

  total(fate: Fate): number {
    return [...this.#files.values()].reduce((sum, tally) => sum + tally[fate], 0);
  }

  /** Tests of our program types that ask for nothing we lack. */
  get applicable(): number {
    return (
      this.total('agreed') + this.total('falselyAccepted') + this.total('falselyRefused') + this.total('runsDiffer')
    );
  }

  report(): string {
    const row = (name: string, cells: readonly (string | number)[]): string =>
      name.padEnd(34) + cells.map(cell => String(cell).padStart(16)).join('');
    const byCount = (missing: ReadonlyMap<string, Missing>): [string, Missing][] =>
      [...missing].sort(([, a], [, b]) => b.tests - a.tests);
    const percent = (part: number, whole: number): string => `${((100 * part) / whole).toFixed(1)} %`;
    const features = [...this.features.values()];
    const accepted = features.reduce((sum, feature) => sum + feature.accepted, 0);
    const refused = this.total('featureMissing') - accepted;
    const agreed = this.total('agreed');
    return [
      row('', COLUMNS),
      ...[...this.#files].map(([file, tally]) =>
        row(
          file,
          COLUMNS.map(fate => tally[fate]),
        ),
      ),
      row(
        'total',
        COLUMNS.map(fate => this.total(fate)),
      ),
      `agreed of the applicable: ${percent(agreed, this.applicable)}`,
      `agreed if what needs a missing feature counted as refused: ${percent(agreed + refused, this.applicable + accepted + refused)}`,
      `refused in the kernel's words: ${this.sameWords} of ${this.refusals}`,
      ...byCount(this.features).map(
        ([name, { tests, accepted }]) => `missing: ${name}: ${tests} tests, of which Linux accepts ${accepted}`,
      ),
      ...byCount(this.#lacking).map(([name, { tests }]) => `not in this kernel either: ${name}: ${tests} tests`),
      ...byCount(this.#otherTypes).map(([name, { tests }]) => `other type: ${name}: ${tests} tests`),
    ].join('\n');
  }
}

function emptyTally(): Record<Fate, number> {
  return {
    agreed: 0,
    falselyAccepted: 0,
    falselyRefused: 0,
    runsDiffer: 0,
    featureMissing: 0,
    kernelLacks: 0,
    otherType: 0,
  };
}

function add(to: Map<string, Missing>, name: string, accepted: boolean): void {
  const missing = to.get(name) ?? { tests: 0, accepted: 0 };
  missing.tests++;
  if (accepted) missing.accepted++;
  to.set(name, missing);
}
