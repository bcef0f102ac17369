"""The rules by which other projects score one reply, restated as slowly and plainly as they read."""

import re
import string


def ruler_all(reply, golds):
    """RULER, needles, variables and words: share of the references that the reply holds, whatever the case."""
    reply = _printable(reply, "\n")
    return sum(1.0 if gold.lower() in reply.lower() else 0.0 for gold in golds) / len(golds)


def ruler_part(reply, golds):
    """RULER, questions: 1 if the reply holds one of the references."""
    reply = _printable(reply, "\n")
    return max(1.0 if gold.lower() in reply.lower() else 0.0 for gold in golds)


def kvpress_ruler_all(reply, golds):
    """RULER's rule as kvpress runs it: characters that do not print are dropped."""
    return ruler_all(_printable(reply, ""), golds)


def kvpress_ruler_part(reply, golds):
    return ruler_part(_printable(reply, ""), golds)


def kvpress_longbench_v2(reply, golds):
    """Kvpress on LongBench v2: the one right sentence stands in the reply."""
    plain = reply.replace("*", "")
    return float(any(f"The correct answer is {shape}" in plain for shape in (f"({golds[0]})", golds[0])))


def longbench_f1(reply, golds):
    """LongBench, English questions: the best F1 of bags of words without articles and punctuation."""
    return max(_f1(_words(reply), _words(gold)) for gold in golds)


def longbench_f1_first_line(reply, golds):
    """The same for data sets of worked examples (triviaqa): of the first line."""
    return longbench_f1(reply.lstrip("\n").split("\n")[0], golds)


def longbench_classes(reply, golds, classes):
    """LongBench, classification: one over the number of classes that the first line names, the right one among them."""
    line = reply.lstrip("\n").split("\n")[0]
    best = 0.0
    for gold in golds:
        named = [one for one in classes if one in line]
        for one in named:  # as it is there: the list is changed while it is walked
            if one in gold and one != gold:
                named.remove(one)
        best = max(best, 1.0 / len(named) if gold in named else 0.0)
    return best


def longbench_numbers(reply, golds):
    """LongBench, counting and retrieval: the share of the numbers in the reply that are the right one."""
    numbers = re.findall(r"\d+", reply)
    right = re.findall(r"\d+", golds[0])[0]
    return sum(number == right for number in numbers) / len(numbers) if numbers else 0.0


def longbench_v2(reply, golds):
    """LongBench v2: the letter after "The correct answer is"."""
    plain = reply.replace("*", "")
    for pattern in (r"The correct answer is \(([A-D])\)", r"The correct answer is ([A-D])"):
        found = re.search(pattern, plain)
        if found:
            return float(found.group(1) == golds[0])
    return 0.0


def lm_eval_exact(reply, golds):
    """lm-eval's exact_match with ignore_case and ignore_punctuation, as triviaqa has it; any target will do."""
    return float(any(_bare(reply) == _bare(gold) for gold in golds))


SCORERS = {
    name: rule
    for name, rule in globals().items()
    if callable(rule) and not name.startswith("_") and getattr(rule, "__module__", "") == __name__
}


def _printable(reply, instead):
    return re.sub(r"[\x00-\x1f]", instead, reply.strip()).strip()


def _words(text):
    text = "".join(one for one in text.lower() if one not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def _f1(said, wanted):
    left, common = list(wanted), 0
    for word in said:
        if word in left:
            left.remove(word)
            common += 1
    if not common:
        return 0.0
    precision, recall = common / len(said), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def _bare(text):
    return "".join(one for one in text.lower() if one not in string.punctuation)
