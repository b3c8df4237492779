"""All cases, family by family."""

from __future__ import annotations

from tests.record.recipe import Recipe
from tests.record.recipes import (
    deepseek,
    gemma,
    glm,
    gpt_oss,
    granite,
    llama,
    minicpm,
    mistral,
    olmo,
    others,
    phi,
    qwen,
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for family in (
        llama,
        mistral,
        qwen,
        gemma,
        phi,
        gpt_oss,
        granite,
        olmo,
        glm,
        deepseek,
        minicpm,
        others,
    )
    for recipe in family.RECIPES
}
