import { conformanceSuite } from '../jit/suites/conformance.ts';
import { arm64Platform } from './emulator.ts';

conformanceSuite(arm64Platform);
