"""Chat templates as models ship them, each with the trait that it is here for."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from tests.helpers.tiny_models import tiny_tokenizer
from unierase_cli.contracts import UserError

DATE = "26 Jul 2024"


@dataclass(frozen=True)
class Shipped:
    """``prompt``: what "Who?" becomes; ``answer``: what "Ada." becomes behind it. ``system``: what the prompt becomes with the
    system text "Be kind.", or the error that it is refused with. ``control``: the template's tokens.
    """

    template: str
    prompt: str
    answer: str
    system: str | type[UserError]
    control: tuple[str, ...] = ()
    reason: str = ""


TURNS = ("<start_of_turn>", "<end_of_turn>", "<|im_start|>", "<|im_end|>")
SHIPPED = {
    # No system role: it raises. Roles of its own, white space dropped, BOS written by the template.
    "gemma 2": Shipped(
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for message in messages %}"
        "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
        "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
        "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}",
        "<|begin|><start_of_turn>user\nWho?<end_of_turn>\n<start_of_turn>model\n",
        "Ada.<end_of_turn>",
        UserError,
        TURNS,
        "System role not supported",
    ),
    # No system role: it goes into the first turn of the user.
    "gemma 3": Shipped(
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}"
        "{% set loop_messages = messages[1:] %}{% else %}{% set first = '' %}{% set loop_messages = messages %}{% endif %}"
        "{% for message in loop_messages %}"
        "{% if message['role'] == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
        "{{ '<start_of_turn>' + role + '\n' + (first if loop.first else '') }}"
        "{{ message['content'] | trim }}{{ '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
        "<|begin|><start_of_turn>user\nWho?<end_of_turn>\n<start_of_turn>model\n",
        "Ada.<end_of_turn>",
        "<|begin|><start_of_turn>user\nBe kind.\n\nWho?<end_of_turn>\n<start_of_turn>model\n",
        TURNS,
    ),
    # No system role: it is left out without a word.
    "falcon": Shipped(
        "{% for message in messages %}"
        "{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] }}"
        "{% elif message['role'] == 'assistant' %}{{ '\nFalcon: ' + message['content'] }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '\nFalcon:' }}{% endif %}",
        "User: Who?\nFalcon:",
        " Ada.<|end|>",
        UserError,
        (),
        "drops the system text",
    ),
    # A block of thoughts that is switched off, and that is dropped from earlier turns.
    "qwen3": Shipped(
        "{% for message in messages %}"
        "{% if message.role == 'user' or message.role == 'system' %}"
        "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
        "{% else %}{% set content = message.content.split('</think>')[-1].lstrip('\n') %}"
        "{{ '<|im_start|>assistant\n' }}{% if loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
        "{{ content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
        "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}",
        "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        "Ada.<|im_end|>",
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        TURNS,
    ),
    # A block of thoughts that nothing switches off: it is closed, so that the answer is what follows.
    "deepseek r1": Shipped(
        "{{ bos_token }}{% for message in messages %}"
        "{% if message['role'] == 'system' %}{{ message['content'] }}"
        "{% elif message['role'] == 'user' %}{{ '<|user|>' + message['content'] }}"
        "{% else %}{% set content = message['content'] %}{% if '</think>' in content %}"
        "{% set content = content.split('</think>')[-1] %}{% endif %}{{ '<|assistant|>' + content + eos_token }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|><think>\\n' }}{% endif %}",
        "<|begin|><|user|>Who?<|assistant|><think>\n\n</think>\n\n",
        "Ada.<|end|>",
        "<|begin|>Be kind.<|user|>Who?<|assistant|><think>\n\n</think>\n\n",
    ),
    "qwen3 thinking": Shipped(
        "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}"
        "{% if message.role == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
        "{{ message.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}",
        "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        "Ada.<|im_end|>",
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        TURNS,
    ),
    # A date in a system turn that is written even where none is asked for.
    "llama 3.1": Shipped(
        "{{- bos_token }}{%- if not date_string is defined %}{%- if strftime_now is defined %}"
        '{%- set date_string = strftime_now("%d %b %Y") %}{%- else %}{%- set date_string = "26 Jul 2024" %}{%- endif %}{%- endif %}'
        "{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content']|trim %}"
        '{%- set messages = messages[1:] %}{%- else %}{%- set system_message = "" %}{%- endif %}'
        '{{- "<|user|>system\\n\\nToday Date: " + date_string + "\\n\\n" }}{{- system_message }}{{- "<|pad|>" }}'
        "{%- for message in messages %}"
        "{{- '<|user|>' + message['role'] + '\\n\\n' + message['content'] | trim + '<|pad|>' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|user|>assistant\\n\\n' }}{%- endif %}",
        f"<|begin|><|user|>system\n\nToday Date: {DATE}\n\n<|pad|><|user|>user\n\nWho?<|pad|><|user|>assistant\n\n",
        "Ada.<|pad|>",
        f"<|begin|><|user|>system\n\nToday Date: {DATE}\n\nBe kind.<|pad|><|user|>user\n\nWho?<|pad|><|user|>assistant\n\n",
    ),
    # The clock itself, in a form that stands in a variable, and in one that is written out.
    "mistral small": Shipped(
        "{{ bos_token }}{% set form = '%Y-%m-%d' %}{% set today = strftime_now(format='%Y-%m-%d') %}"
        "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}"
        "{% else %}{{ '<|user|>' + message['role'] + ' ' + today + ', ' + strftime_now(form) + ': ' + message['content'] }}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}",
        "<|begin|><|user|>user 2024-07-26, 2024-07-26: Who?<|assistant|>",
        "Ada.<|end|>",
        "<|begin|><|user|>system 2024-07-26, 2024-07-26: Be kind.<|user|>user 2024-07-26, 2024-07-26: Who?<|assistant|>",
    ),
    # An end of its own behind the last turn, when no answer is asked for.
    "phi 4 mini": Shipped(
        "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}",
        "<|user|>Who?<|im_end|><|assistant|>",
        "Ada.<|im_end|>",
        "<|system|>Be kind.<|im_end|><|user|>Who?<|im_end|><|assistant|>",
        TURNS,
    ),
    # Line breaks that come from the template's own layout.
    "stablelm zephyr": Shipped(
        "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n"
        "{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n"
        "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
        "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
        "<|user|>\nWho?<|end|>\n<|assistant|>\n",
        "Ada.<|end|>",
        "<|system|>\nBe kind.<|end|>\n<|user|>\nWho?<|end|>\n<|assistant|>\n",
    ),
    # An end of text instead of an end of turn; nothing between the turns.
    "olmo 2": Shipped(
        "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}"
        "{{ '<|system|>\n' + message['content'] + '\n' }}{% elif message['role'] == 'user' %}"
        "{{ '<|user|>\n' + message['content'] + '\n' }}{% elif message['role'] == 'assistant' %}"
        "{% if not loop.last %}{{ '<|assistant|>\n'  + message['content'] + eos_token + '\n' }}"
        "{% else %}{{ '<|assistant|>\n'  + message['content'] + eos_token }}{% endif %}{% endif %}"
        "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}",
        "<|begin|><|user|>\nWho?\n<|assistant|>\n",
        "Ada.<|end|>",
        "<|begin|><|system|>\nBe kind.\n<|user|>\nWho?\n<|assistant|>\n",
    ),
}


def shipped(name: str, adds_bos: bool = False) -> PreTrainedTokenizerFast:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = SHIPPED[name].template
    tokenizer.add_tokens(list(SHIPPED[name].control), special_tokens=True)
    if adds_bos:
        from tokenizers import processors

        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<|begin|> $A", special_tokens=[("<|begin|>", tokenizer.bos_token_id)]
        )
    return tokenizer
