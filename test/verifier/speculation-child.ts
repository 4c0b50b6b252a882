/** The kernel's verdicts on `speculation-programs.ts` with CAP_BPF only: run by speculation.test.ts under setpriv. Prints JSON. */
import { KernelJudge } from '../../src/kernel/judge.ts';
import { MAPS, PROGRAMS } from './speculation-programs.ts';

const judge = new KernelJudge({ programs: new Map(), maps: MAPS, btf: undefined });
const verdicts = PROGRAMS.map(program => {
  const { accepted, insnsProcessed, error } = judge.judge(program);
  return { name: program.name, accepted, insnsProcessed, why: error?.message ?? '' };
});
judge.dispose();
console.log(JSON.stringify(verdicts));
